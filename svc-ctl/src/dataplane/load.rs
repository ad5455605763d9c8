//! Programs over a set of maps. They are opened from their pins if this very build pinned them, else loaded.
//!
//! A program's folder is named by a hash of the object, of `CONFIG`, of the ABI numbers, and of the ids of the maps
//! that the programs use. A program pinned in it is identical to one loaded now.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use aya::programs::{Program, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use sha2::{Digest as _, Sha256};
use svc_common::abi::{Config, RECORDS_ABI, TABLES_ABI, names};

use super::carried::Carried;
use super::map_set::MapSet;
use super::object::OBJECT;
use super::pins::Pins;
use super::shapes::TableSizes;
use super::sys;

pub use super::features::{Features, ProgramSettings};
use crate::memory;

/// Maps that only programs use; they are pinned in the programs' folder.
const PRIVATE_MAPS: [&str; 7] =
    ["CLOCK", "REJECTS", "NEW_FLOWS", "SCRATCH4", "SCRATCH6", names::CARRIED4, names::CARRIED6];

/// Every map that is pinned for the daemon.
fn all_maps() -> impl Iterator<Item = &'static &'static str> {
    names::TABLES.iter().chain(names::RECORDS)
}

/// Programs over one set of maps.
pub struct Loaded {
    object: Cow<'static, [u8]>,
    config: Config,
    pub features: Features,
    maps: MapSet,
    carried: Carried,
    /// Folder of the programs' pins.
    dir: PathBuf,
    programs: BTreeMap<String, OwnedFd>,
    /// The parsed object, while programs are loaded from it.
    ebpf: Option<Ebpf>,
    /// Number of programs that were loaded instead of opened.
    pub loads: usize,
}

impl Loaded {
    /// Prepares programs of this build over these maps and the old flow tables. Loads nothing yet.
    pub fn over(
        pins: &Pins,
        settings: ProgramSettings,
        maps: MapSet,
        carried: Carried,
    ) -> anyhow::Result<Self> {
        Self::of_object(Cow::Borrowed(OBJECT), pins, settings, maps, carried)
    }

    /// Loads every program of an object of this version over the pinned maps: for tests and benchmarks.
    pub fn with_object(object: &[u8], pins: &Pins, settings: ProgramSettings) -> anyhow::Result<Self> {
        let maps = MapSet::open_or_make(pins, &TableSizes::default())?;
        let carried = Carried::pinned(pins, &maps)?;
        let mut loaded = Self::of_object(Cow::Owned(object.to_vec()), pins, settings, maps, carried)?;
        let names: Vec<String> = loaded.ebpf()?.programs().map(|(name, _)| name.to_owned()).collect();
        loaded.load(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(loaded)
    }

    /// Programs of this build with the configuration of others, over maps and in a folder of their own.
    pub(super) fn apart(config: Config, maps: MapSet, dir: PathBuf) -> Self {
        Self {
            object: Cow::Borrowed(OBJECT),
            config,
            features: Features::detect(),
            maps,
            carried: Carried::default(),
            dir,
            programs: BTreeMap::new(),
            ebpf: None,
            loads: 0,
        }
    }

    fn of_object(
        object: Cow<'static, [u8]>,
        pins: &Pins,
        settings: ProgramSettings,
        maps: MapSet,
        carried: Carried,
    ) -> anyhow::Result<Self> {
        let features = Features::detect();
        let config = settings.config(features)?;
        let mut hash = Sha256::new();
        hash.update(&object);
        hash.update(octets(&config));
        [TABLES_ABI, RECORDS_ABI].iter().for_each(|number| hash.update(number.to_ne_bytes()));
        maps.ids().chain(carried.ids()).for_each(|(name, id)| {
            hash.update(name);
            hash.update(id.to_ne_bytes());
        });
        let name: String = hash.finalize().iter().take(8).map(|octet| format!("{octet:02x}")).collect();
        let dir = pins.programs().join(name);
        let programs = BTreeMap::new();
        Ok(Self { object, config, features, maps, carried, dir, programs, ebpf: None, loads: 0 })
    }

    /// The programs have these settings, as far as settings change while the daemon runs.
    pub const fn has(&self, settings: ProgramSettings) -> bool {
        (self.config.pools != 0) == settings.pools
    }

    /// Folder of these programs' pins.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    pub fn maps(&self) -> &MapSet {
        &self.maps
    }

    /// Old flow tables that these programs use beside those in force.
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Opens these programs, or loads them in parallel on all CPUs.
    pub fn require(&mut self, names: &[&str]) -> anyhow::Result<()> {
        let missing: Vec<&str> = names.iter().copied().filter(|name| !self.is_open(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let loaded = self.load(&missing);
        // The parsed object needs more memory than the rest of the daemon.
        self.ebpf = None;
        memory::give_back();
        loaded
    }

    /// The program is open, or could be opened by its pin.
    fn is_open(&mut self, name: &str) -> bool {
        if self.programs.contains_key(name) {
            return true;
        }
        let Ok(fd) = sys::open_pin(&self.dir.join(name)) else { return false };
        let is_it = sys::program_info(fd.as_fd())
            .is_ok_and(|info| info.name == name && info.maps.iter().any(|id| self.maps.has(*id)));
        match is_it {
            true => drop(self.programs.insert(name.to_owned(), fd)),
            false => {
                tracing::warn!(path = %self.dir.join(name).display(), "another object is pinned at this path; loading the program")
            }
        }
        is_it
    }

    fn load(&mut self, names: &[&str]) -> anyhow::Result<()> {
        let dir = self.dir.clone();
        let ebpf = self.ebpf()?;
        let mut wanted: Vec<(&str, &mut Program)> =
            ebpf.programs_mut().filter(|(name, _)| names.contains(name)).collect();
        if wanted.len() < names.len() {
            bail!("not all of {names:?} are in the object");
        }
        // The last is taken first. Socket programs are small.
        wanted.sort_by_key(|(_, program)| {
            !matches!(program, Program::CgroupSockAddr(_) | Program::CgroupSock(_))
        });
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(wanted.len());
        let queue = Mutex::new(wanted);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().ok().and_then(|mut queue| queue.pop());
                        let Some((name, program)) = next else { return };
                        let start = Instant::now();
                        let result =
                            load_one(name, program).and_then(|fd| pin(&dir.join(name), &fd).map(|()| fd));
                        tracing::debug!(name, ms = start.elapsed().as_secs_f64() * 1e3, "program loaded");
                        if let Ok(mut results) = results.lock() {
                            results.push((name.to_owned(), result));
                        }
                    }
                });
            }
        });
        let results = results.into_inner().map_err(|_| anyhow!("a thread that loads programs panicked"))?;
        let mut refused = Ok(());
        for (name, result) in results {
            match result {
                Ok(fd) => {
                    self.loads += 1;
                    self.programs.insert(name, fd);
                }
                Err(err) => refused = Err(err),
            }
        }
        refused
    }

    /// Parses the object and gives its maps the descriptors of ours, by temporary pins.
    fn ebpf(&mut self) -> anyhow::Result<&mut Ebpf> {
        if self.ebpf.is_none() {
            let dir = self.dir.join("maps");
            std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
            self.maps.pin(|name| dir.join(name))?;
            self.carried.pin(&dir)?;
            let mut loader = EbpfLoader::new();
            loader.override_global("CONFIG", &self.config, true);
            for name in all_maps().chain(&PRIVATE_MAPS) {
                loader.map_pin_path(name, dir.join(name));
            }
            self.ebpf = Some(loader.load(&self.object).context("reading the object of programs")?);
            for name in all_maps() {
                let _ = std::fs::remove_file(dir.join(name));
            }
        }
        self.ebpf.as_mut().context("the object of programs was not read")
    }

    /// Pins the programs that lost their pins; returns the number.
    pub fn restore_pins(&self) -> anyhow::Result<u64> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        let lost = self.programs.iter().filter(|(name, _)| !self.dir.join(name).exists());
        lost.map(|(name, fd)| pin(&self.dir.join(name), fd).map(|()| 1)).sum()
    }

    /// A descriptor of a program; loads it if necessary.
    pub fn program(&mut self, name: &str) -> anyhow::Result<OwnedFd> {
        self.require(&[name])?;
        let fd = self.programs.get(name).with_context(|| format!("no program {name}"))?;
        Ok(fd.try_clone()?)
    }

    /// The program for a TC hook, to be attached by netlink.
    pub fn classifier(&mut self, name: &str) -> anyhow::Result<SchedClassifier> {
        self.require(&[name])?;
        self.restore_pins()?;
        Ok(SchedClassifier::from_pin(self.dir.join(name))?)
    }

    /// For tests that run programs by hand.
    pub fn xdp(&mut self, name: &str) -> anyhow::Result<&mut Xdp> {
        Ok(self.ebpf()?.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }
}

fn pin(path: &Path, fd: &OwnedFd) -> anyhow::Result<()> {
    // Another file may be at that path.
    let _ = std::fs::remove_file(path);
    sys::pin(fd.as_fd(), path).with_context(|| format!("pinning {}", path.display()))
}

fn load_one(name: &str, program: &mut Program) -> anyhow::Result<OwnedFd> {
    match program {
        Program::SchedClassifier(p) => p.load(),
        Program::Xdp(p) => p.load(),
        Program::CgroupSockAddr(p) => p.load(),
        Program::CgroupSock(p) => p.load(),
        _ => bail!("program {name} is of a kind that is not attached"),
    }
    .map_err(|err| anyhow!("the kernel refuses program {name}: {err}"))?;
    let fd = match program {
        Program::SchedClassifier(p) => p.fd(),
        Program::Xdp(p) => p.fd(),
        Program::CgroupSockAddr(p) => p.fd(),
        Program::CgroupSock(p) => p.fd(),
        _ => bail!("program {name} is of a kind that is not attached"),
    };
    Ok(fd?.as_fd().try_clone_to_owned()?)
}

pub(super) fn octets(config: &Config) -> &[u8] {
    // SAFETY: `Config` is plain data without padding, as `svc_common::abi` asserts.
    unsafe { std::slice::from_raw_parts((config as *const Config).cast(), size_of::<Config>()) }
}
