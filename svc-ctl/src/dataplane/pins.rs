//! Paths of all pins.
//!
//! Tables and records are in two folders, each named by its ABI number: two versions share a map only if it means the same to
//! both. Programs are in a folder beside the tables, named by the hash of everything that determines them. Links are
//! beside both folders, by hook and interface, so that an upgrade replaces the old program. New maps that will replace
//! others are in a staging folder.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use svc_common::abi::{RECORDS_ABI, TABLES_ABI, names};

/// The pin directory of one node.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Opens or makes the directory. Mounts a bpffs if the path is a standard mount point without one; elsewhere the
    /// error says what is missing.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let pins = Self { root: root.to_owned() };
        pins.make()?;
        Ok(pins)
    }

    /// Makes missing directories, and mounts the bpffs again if it is gone.
    pub fn make(&self) -> anyhow::Result<()> {
        let root = &self.root;
        if !is_bpffs(nearest(root)) {
            let mount_point = Path::new("/sys/fs/bpf");
            if !root.starts_with(mount_point) {
                bail!("--pin-dir {}: not on a bpffs (mount -t bpf bpffs DIR)", root.display());
            }
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            if is_slave(&mounts, mount_point) {
                bail!(
                    "--pin-dir {}: the node has no bpffs at {}, and one that this container mounts would not reach \
                     the node: `mount -t bpf bpffs {}` on the node, or let the container be privileged",
                    root.display(),
                    mount_point.display(),
                    mount_point.display()
                );
            }
            mount(Some("bpffs"), mount_point, Some("bpf"), MsFlags::empty(), None::<&str>)
                .with_context(|| format!("--pin-dir {}: mounting a bpffs at /sys/fs/bpf", root.display()))?;
        }
        for dir in [self.tables(), self.records(), self.programs(), self.links()] {
            std::fs::create_dir_all(&dir).with_context(|| format!("--pin-dir: making {}", dir.display()))?;
        }
        Ok(())
    }

    /// Opens an existing directory, for commands that only read.
    pub fn existing(root: &Path) -> anyhow::Result<Self> {
        let pins = Self { root: root.to_owned() };
        if !pins.tables().is_dir() {
            bail!("--pin-dir {}: no tables of ABI number {TABLES_ABI} are pinned there", root.display());
        }
        Ok(pins)
    }

    /// Tables of this ABI number.
    pub fn tables(&self) -> PathBuf {
        self.root.join(format!("v{TABLES_ABI}"))
    }

    /// Maps that programs fill, of this ABI number.
    pub fn records(&self) -> PathBuf {
        self.root.join(format!("{RECORDS}{RECORDS_ABI}"))
    }

    pub fn map(&self, name: &str) -> PathBuf {
        if names::TABLES.contains(&name) { self.tables().join(name) } else { self.records().join(name) }
    }

    /// Folder of maps that will replace those of the same names. (A bpffs has no names with dots.)
    pub fn staging(&self) -> PathBuf {
        self.root.join(format!("v{TABLES_ABI}-next"))
    }

    /// Removes leftovers of an unfinished replacement.
    pub fn remove_staging(&self) -> anyhow::Result<()> {
        remove_tree(&self.staging()).map(drop)
    }

    /// Removes the tables of this ABI number and the programs over them; returns the number of pins.
    pub fn remove_tables(&self) -> anyhow::Result<usize> {
        remove_tree(&self.tables())
    }

    /// Programs over the tables of this ABI number, in a folder for each build.
    pub fn programs(&self) -> PathBuf {
        self.tables().join("programs")
    }

    /// Copies of programs for dry runs, in a folder for each set of tables.
    pub fn dry_programs(&self) -> PathBuf {
        self.tables().join("dry")
    }

    /// Removes the programs of every build except this one, and the copies for dry runs.
    pub fn remove_other_programs(&self, kept: &Path) -> anyhow::Result<()> {
        self.remove_dry_programs();
        remove_others(&self.programs(), kept)
    }

    /// Removes the copies of programs for dry runs: they would keep replaced tables in memory. Copies that `svc-ctl why` uses
    /// now are left to its next call.
    fn remove_dry_programs(&self) {
        let dir = self.dry_programs();
        let removed = match File::open(&dir).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
            Err(_) | Ok(Err((_, Errno::EWOULDBLOCK))) => return,
            Ok(Err((_, err))) => Err(err.into()),
            Ok(Ok(_lock)) => remove_tree(&dir),
        };
        if let Err(err) = removed {
            tracing::warn!("cannot remove the copies of programs for dry runs: {err:#}");
        }
    }

    /// Locks the copies for dry runs for this process, and removes those over other tables than the copy in this folder. Waits
    /// for another process no longer than `patience`.
    pub fn lock_dry_programs(&self, kept: &Path, patience: Duration) -> anyhow::Result<Lock> {
        let dir = self.dry_programs();
        let start = Instant::now();
        loop {
            std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
            match File::open(&dir).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
                Ok(Ok(lock)) => {
                    let lock = Lock(lock);
                    // The daemon may have removed the folder in between.
                    if lock.is_of(&dir) {
                        remove_others(&dir, kept)?;
                        std::fs::create_dir_all(kept)
                            .with_context(|| format!("making {}", kept.display()))?;
                        return Ok(lock);
                    }
                }
                Ok(Err((_, Errno::EWOULDBLOCK))) => {}
                Ok(Err((_, err))) => return Err(err).with_context(|| format!("locking {}", dir.display())),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => return Err(err).with_context(|| format!("opening {}", dir.display())),
            }
            if start.elapsed() > patience {
                bail!("another `svc-ctl why` has used {} for {patience:?}: try again later", dir.display());
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the kernel does not notify when a lock becomes free"
            )]
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    /// Removes the programs of one build.
    pub fn remove_programs(&self, dir: &Path) -> anyhow::Result<()> {
        remove_tree(dir).map(drop)
    }

    /// Links of any version.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// Folders of maps of other ABI numbers.
    pub fn other_versions(&self) -> io::Result<Vec<PathBuf>> {
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            let path = entry.path();
            let is_kept = is_ours(&entry.file_name().to_string_lossy());
            let own = [self.tables(), self.records(), self.staging(), self.links()];
            if is_kept && path.is_dir() && !own.contains(&path) {
                others.push(path);
            }
        }
        Ok(others)
    }

    /// Removes the maps and programs of other ABI numbers. Once no hook uses them, they are out of date, and a daemon
    /// that is rolled back must not find them.
    pub fn remove_other_versions(&self) {
        let remove = |path: PathBuf| {
            let removed = remove_tree(&path)?;
            tracing::info!(path = %path.display(), removed, "removed maps of another version: no hook uses them");
            anyhow::Ok(())
        };
        let removed =
            self.other_versions().map_err(Into::into).and_then(|all| all.into_iter().try_for_each(remove));
        if let Err(error) = removed {
            tracing::warn!(error = format!("{error:#}"), "cannot remove maps of another version");
        }
    }

    /// Names of the pinned links.
    pub fn link_names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.links())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Locks the pins for one daemon, until the lock is dropped.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        lock_file(File::open(&self.root), || format!("--pin-dir {}", self.root.display()))
    }

    /// Removes every pin of ours below a directory on a bpffs, and the directory itself if it is empty. Objects that
    /// the kernel holds only by a pin are freed. Touches nothing else, and nothing while a daemon runs.
    pub fn remove(root: &Path) -> anyhow::Result<usize> {
        let mut removed = 0;
        if !root.exists() {
            return Ok(0);
        }
        if !is_bpffs(root) {
            bail!("--pin-dir {}: not on a bpffs; nothing was removed", root.display());
        }
        let _alone = Self { root: root.to_owned() }.lock()?;
        for entry in std::fs::read_dir(root).with_context(|| format!("--pin-dir {}", root.display()))? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() || !is_ours(&entry.file_name().to_string_lossy()) {
                continue;
            }
            removed += remove_tree(&entry.path())?;
        }
        match std::fs::remove_dir(root) {
            Err(err) if err.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(removed),
            // The user may name the root of the bpffs.
            Err(err) if err.kind() == io::ErrorKind::ResourceBusy => Ok(removed),
            result => result.map(|()| removed).with_context(|| format!("removing {}", root.display())),
        }
    }
}

/// The right to change the pins.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    /// The locked file is still the one at the path.
    pub fn is_of(&self, path: &Path) -> bool {
        let id = |m: std::fs::Metadata| (m.dev(), m.ino());
        matches!((self.0.metadata().map(id), path.metadata().map(id)), (Ok(a), Ok(b)) if a == b)
    }
}

/// Number of tries for a lock that another process holds for a moment (`status` tests whether it is free).
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Locks a file. `what` names the file in the error.
pub fn lock_file(file: io::Result<File>, what: impl Fn() -> String) -> anyhow::Result<Lock> {
    let mut file = file.with_context(&what)?;
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Lock(lock)),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, err)) => return Err(err).with_context(|| format!("locking {}", what())),
        }
        #[expect(clippy::disallowed_methods, reason = "the kernel does not notify when a lock becomes free")]
        std::thread::sleep(LOCK_PAUSE);
    }
    bail!("another svc-ctl runs with {}", what())
}

/// Another process holds the lock of that file.
pub fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Beginning of the name of a folder of records.
const RECORDS: &str = "records-v";

/// The name is `links`, `v` and a number, that and `-next`, or `records-v` and a number.
fn is_ours(name: &str) -> bool {
    let is_number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    let version = name.strip_suffix("-next").unwrap_or(name).strip_prefix('v');
    name == "links" || [version, name.strip_prefix(RECORDS)].into_iter().flatten().any(is_number)
}

/// Removes everything in a folder but one of its folders.
fn remove_others(dir: &Path, kept: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let dir = entry?.path();
        if dir != kept {
            remove_tree(&dir)?;
        }
    }
    Ok(())
}

/// Removes a folder of ours with all pins in it; returns the number. A missing folder has none.
fn remove_tree(dir: &Path) -> anyhow::Result<usize> {
    let entries = match std::fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.with_context(|| format!("reading {}", dir.display()))?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_tree(&entry.path())?;
            continue;
        }
        let pin = entry.path();
        std::fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
        removed += 1;
    }
    std::fs::remove_dir(dir).with_context(|| format!("removing {}", dir.display()))?;
    Ok(removed)
}

/// The closest ancestor that exists.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"))
}

/// Mounts at this path are received from another mount namespace and not sent back: tables pinned in a bpffs mounted
/// here would be lost with the container.
fn is_slave(mountinfo: &str, path: &Path) -> bool {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        let point = Path::new(fields.next()?);
        // Optional fields follow the options, up to a dash.
        let tags: Vec<_> = fields.skip(1).take_while(|tag| *tag != "-").collect();
        path.starts_with(point).then_some((point, tags))
    });
    // If several are equal, the newest, which covers the others.
    let nearest = mounts.max_by_key(|(point, _)| point.as_os_str().len());
    nearest.is_some_and(|(_, tags)| {
        let has = |kind| tags.iter().any(|tag| tag.starts_with(kind));
        has("master:") && !has("shared:")
    })
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("svc-pins-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("links")).unwrap();
        dir
    }

    #[test]
    fn cleanup_touches_nothing_that_is_not_on_a_bpffs() {
        let dir = scratch("foreign");
        let file = dir.join("links/precious");
        std::fs::write(&file, "x").unwrap();
        let err = Pins::remove(&dir).unwrap_err().to_string();
        assert!(err.contains("--pin-dir") && err.contains("not on a bpffs"), "{err}");
        assert!(file.exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_mount_that_would_stay_in_the_container_is_recognised() {
        let of_container = "29 28 0:25 / / rw shared:1 master:7 - overlay overlay rw";
        let slave = "30 29 0:26 / /sys/fs/bpf rw,relatime master:9 - sysfs sysfs rw";
        let shared = "30 29 0:26 / /sys/fs/bpf rw,relatime shared:3 master:9 - sysfs sysfs rw";
        let private = "30 29 0:26 / /sys/fs/bpf rw - sysfs sysfs rw";
        let beside = "31 29 0:26 / /sys/fs/bpf2 rw master:9 - sysfs sysfs rw";
        for (mounts, expected) in [
            ([of_container, slave], true),
            ([of_container, shared], false),
            ([of_container, private], false),
            ([of_container, beside], false),
            ([slave, shared], false),
        ] {
            assert_eq!(is_slave(&mounts.join("\n"), Path::new("/sys/fs/bpf")), expected, "{mounts:?}");
        }
    }

    #[test]
    fn only_links_and_versions_are_ours() {
        assert!(is_ours("links") && is_ours("v4") && is_ours("v12") && is_ours("v4-next"));
        assert!(is_ours("records-v5") && !is_ours("records-v") && !is_ours("records-v5-next"));
        assert!(
            !is_ours("v")
                && !is_ours("next")
                && !is_ours("v4a")
                && !is_ours("home")
                && !is_ours("")
                && !is_ours("vx")
        );
    }

    #[test]
    fn copies_for_dry_runs_have_one_user_and_the_daemon_waits_for_none() {
        let dir = scratch("dry");
        let pins = Pins { root: dir.clone() };
        let folder = |name| pins.dry_programs().join(name);
        pins.remove_dry_programs();
        let held = pins.lock_dry_programs(&folder("a"), Duration::ZERO).unwrap();
        let err = pins.lock_dry_programs(&folder("b"), Duration::from_millis(1)).unwrap_err().to_string();
        assert!(err.contains("another `svc-ctl why`") && err.contains("/dry"), "{err}");
        pins.remove_dry_programs();
        assert!(folder("a").is_dir(), "copies in use are removed");
        drop(held);
        let held = pins.lock_dry_programs(&folder("b"), Duration::ZERO).unwrap();
        assert!(folder("b").is_dir() && !folder("a").exists(), "copies over other tables stay");
        drop(held);
        pins.remove_dry_programs();
        assert!(!pins.dry_programs().exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_pin_directory_has_one_holder() {
        let dir = scratch("lock");
        let pins = Pins { root: dir.clone() };
        assert!(!is_locked(&dir));
        let held = pins.lock().unwrap();
        assert!(is_locked(&dir));
        let err = format!("{:#}", pins.lock().unwrap_err());
        assert_eq!(err, format!("another svc-ctl runs with --pin-dir {}", dir.display()));
        assert!(held.is_of(&dir) && !held.is_of(&dir.join("links")));
        drop(held);
        drop(pins.lock().unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
