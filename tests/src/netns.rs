//! Network namespaces: made, entered, and removed with their guard.

use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::family::Family;
use crate::{command, run_name};

const DIR: &str = "/run/netns";

/// A named network namespace. Dropping it removes the name; the namespace ends with its last process.
#[derive(Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
}

impl Netns {
    pub fn new(name: &str) -> Result<Self> {
        command::run(Command::new("ip").args(["netns", "add", name]))?;
        let netns = Self::named(name);
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// A namespace that another owner made and will remove.
    pub fn of_others(name: &str) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self::named(name))
    }

    /// Like [`Self::of_others`], for a file elsewhere: another mount namespace's `/run/netns`, through `/proc`.
    pub fn at(path: PathBuf) -> ManuallyDrop<Self> {
        let name = path.file_name().unwrap_or_default().display().to_string();
        ManuallyDrop::new(Self { name, path })
    }

    fn named(name: &str) -> Self {
        Self { name: name.into(), path: Path::new(DIR).join(name) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command in this namespace and in the caller's file system (so that cgroups stay visible).
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let file = self.open()?;
        let mut command = Command::new(program);
        let enter = move || Ok(setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?);
        // SAFETY: between fork and exec only the system call setns is made; nothing is allocated or locked.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Runs lines of `ip -batch` for both families, in one process.
    pub fn ip(&self, lines: &str) -> Result<()> {
        command::feed(self.command("ip")?.args(["-batch", "-"]), lines)?;
        Ok(())
    }

    /// Runs `ip` for one family, which rules of policy routing must name.
    pub fn ip_of(&self, family: Family, lines: &str) -> Result<()> {
        let option = if family == Family::V4 { "-4" } else { "-6" };
        command::feed(self.command("ip")?.args([option, "-batch", "-"]), lines)?;
        Ok(())
    }

    pub fn nft(&self, rules: &str) -> Result<()> {
        command::feed(self.command("nft")?.args(["-f", "-"]), rules)?;
        Ok(())
    }

    /// Turns an offload of an interface on or off, like `ethtool -K`.
    pub fn offload(&self, interface: &str, feature: &str, on: bool) -> Result<()> {
        let state = if on { "on" } else { "off" };
        command::run(self.command("ethtool")?.args(["-K", interface, feature, state]))?;
        Ok(())
    }

    /// Writes sysctls (`net/ipv4/ip_forward`, `1`).
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.within(|| {
            settings.iter().try_for_each(|(key, value)| {
                fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("sysctl {key}={value}"))
            })
        })
    }

    /// Runs a closure on a thread inside this namespace.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = self.open()?;
        let inside = move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", self.name))?;
            act()
        };
        thread::scope(|scope| {
            scope.spawn(inside).join().map_err(|_| anyhow!("a thread in {} panicked", self.name))
        })?
    }

    fn open(&self) -> Result<File> {
        File::open(&self.path).with_context(|| format!("open network namespace {}", self.name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

pub(crate) fn remove(name: &str) {
    // An error in a drop cannot be handled; the next run removes leftovers.
    let _ = command::run(Command::new("ip").args(["netns", "delete", name]));
}

/// The names of all network namespaces that have one.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(DIR).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Removes namespaces of dead owners.
pub fn remove_stale() {
    names().iter().filter(|name| run_name::is_stale(name)).for_each(|name| remove(name));
}
