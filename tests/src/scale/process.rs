//! Costs of a process: CPU time, its own memory, and the kernel's memory for its maps.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::bpf;
use crate::bpffs::BpfFs;

/// A process that used no more than this in a [`LOOK`] is idle.
const RESTING: Duration = Duration::from_micros(200);
const LOOK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// CPU time of all its threads, including ended ones: utime + stime, in nanoseconds.
    pub fn cpu(self) -> Result<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.0.cast_signed())).context("find its clock")?;
        Ok(clock.now().context("read its clock")?.into())
    }

    /// Waits until it is idle, at most `limit`.
    pub fn await_rest(self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut before = self.cpu()?;
        loop {
            thread::park_timeout(LOOK);
            let now = self.cpu()?;
            let rests = now - before < RESTING && !self.is_runnable();
            if rests || Instant::now() >= deadline {
                return Ok(());
            }
            before = now;
        }
    }

    /// A thread is running or waiting for a CPU.
    fn is_runnable(self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok()).any(|stat| {
            // The state follows the name, which may contain any character.
            stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('R'))
        })
    }

    /// Resident memory in MB, and its peak.
    pub fn memory(self) -> Result<(f64, f64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0)).context("read its status")?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            number.map(|kib| kib * 1024.0 / 1e6).with_context(|| format!("no {name}"))
        };
        Ok((value("VmRSS")?, value("VmHWM")?))
    }

    /// The kernel's memory in MB for the maps that are pinned below a folder and those that it has open.
    pub fn map_memory(self, pins: &Path) -> Result<f64> {
        let mut octets = BTreeMap::new();
        // Links have no such fields.
        for pin in BpfFs::pins(pins) {
            if let Ok(fd) = bpf::open_pin(&pin) {
                octets.extend(map_size(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd())));
            }
        }
        let entries = fs::read_dir(format!("/proc/{}/fdinfo", self.0)).context("read its descriptors")?;
        octets.extend(entries.flatten().filter_map(|entry| map_size(&entry.path().display().to_string())));
        Ok(octets.values().sum::<u64>() as f64 / 1e6)
    }
}

/// CPU use of other processes during a measurement.
#[derive(Debug)]
pub struct OtherProcesses {
    began: Instant,
    busy: Duration,
    ours: Duration,
}

impl OtherProcesses {
    pub fn begin() -> Result<Self> {
        Ok(Self { began: Instant::now(), busy: all_busy()?, ours: Process(std::process::id()).cpu()? })
    }

    /// Per cent of all CPUs not used by us or the daemon.
    pub fn end(&self, daemon: Duration) -> Result<f64> {
        let ours = Process(std::process::id()).cpu()? - self.ours + daemon;
        let others = (all_busy()? - self.busy).saturating_sub(ours);
        let processors = thread::available_parallelism().map_or(1, usize::from) as f64;
        Ok(100.0 * others.as_secs_f64() / self.began.elapsed().as_secs_f64() / processors)
    }
}

/// user, nice and system time of all CPUs since boot, and interrupts.
fn all_busy() -> Result<Duration> {
    const TICKS: u64 = 100;
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|place| ticks.get(*place)).sum();
    Ok(Duration::from_millis(busy * 1000 / TICKS))
}

/// The id of a descriptor's map, and its memory.
fn map_size(fdinfo: &str) -> Option<(u64, u64)> {
    let text = fs::read_to_string(fdinfo).ok()?;
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
    };
    Some((value("map_id")?, value("memlock")?))
}
