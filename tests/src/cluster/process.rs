//! One program of the cluster, with a cgroup and a log of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};

use crate::cgroup::Cgroup;
use crate::command::last_lines;
use crate::wait;

/// The API server finishes requests in flight.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running program. Dropping it ends it and all its children.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    cgroup: Cgroup,
}

impl Process {
    /// Starts `command` in a cgroup of its own; its output goes to `log_dir/name.log`.
    pub(super) fn start(name: &str, mut command: Command, cgroup: Cgroup, log_dir: &Path) -> Result<Self> {
        let log = log_dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        cgroup.contain(&mut command)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        leave_terminal(&mut command);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), log, child, cgroup })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Fails if the program has ended; the error names it.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().with_context(|| format!("look at {}", self.name))? {
            bail!("{} ended: {status}; the end of {}:\n{}", self.name, self.log.display(), self.last_lines());
        }
        Ok(())
    }

    pub(super) fn last_lines(&self) -> String {
        last_lines(&self.log)
    }

    /// Sends SIGTERM and waits.
    pub(super) fn stop(mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGTERM).with_context(|| format!("terminate {}", self.name))?;
        let ended = || Ok(self.child.try_wait()?.is_some());
        wait::until_true(&format!("{} ends after SIGTERM", self.name), STOP_LIMIT, ended)
    }

    /// Freezes or thaws all its threads.
    pub(super) fn freeze(&self, frozen: bool) -> Result<()> {
        let path = self.cgroup.path().join("cgroup.freeze");
        fs::write(&path, if frozen { "1" } else { "0" }).with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; the cgroup ends the processes that it started.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a session of its own: Ctrl-C does not reach it, and it may outlive its parent.
fn leave_terminal(command: &mut Command) {
    let leave = || Ok(setsid().map(drop)?);
    // SAFETY: between fork and exec only the system call setsid is made; nothing is allocated or locked.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, leave) };
}
