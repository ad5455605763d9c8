//! Removes the leftovers of a killed run: at the next start, and at once by a child process that outlives the run.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::hierarchies;
use crate::{bpffs, cgroup, netns, run_name, wait};

/// The running program, even if its file has been replaced by a new build.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

pub(crate) const ENV: &str = "SVC_TESTS_CLEANUP";

/// Keeps the child's stdin open: the child works when this process ends, however that happens.
#[derive(Debug)]
pub struct Cleanup {
    _child: Child,
}

impl Cleanup {
    /// Removes leftovers of dead runs, then starts the child for this run's.
    pub fn start() -> Result<Self> {
        sweep();
        let child = Command::new(THIS_PROGRAM)
            .arg("run")
            .env(ENV, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C at the terminal must not end the child.
            .process_group(0)
            .spawn()
            .context("start the cleanup")?;
        Ok(Self { _child: child })
    }
}

/// Ends processes, then removes their namespaces, mounts and folders.
pub fn sweep() {
    cgroup::remove_stale();
    hierarchies::remove_stale();
    netns::remove_stale();
    bpffs::remove_stale();
}

/// The child's main: waits for the end of the run, then sweeps.
pub(crate) fn run(owner: &str) {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    let name = format!("svc-{owner}-");
    let gone = || Ok(run_name::is_stale(&name));
    if wait::until_true("the run is over", Duration::from_secs(60), gone).is_ok() {
        sweep();
    }
}
