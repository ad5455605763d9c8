//! CPU time of a program: its own, and that of all children that it has waited for.

use std::fs;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Waits for the end of the program. A program that has ended keeps its times until it is reaped.
pub fn wait(child: &mut Child) -> Result<(ExitStatus, Duration)> {
    let pid = i32::try_from(child.id())?;
    waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticks = ticks(&stat).with_context(|| format!("{path}: {stat}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or_default();
    ensure!(per_second > 0, "the kernel does not say how long a tick is");
    Ok((child.wait()?, Duration::from_secs_f64(ticks as f64 / per_second as f64)))
}

/// The same of all programs that this process has waited for.
pub fn of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).map(Duration::from_micros);
    Ok(micros(usage.user_time())? + micros(usage.system_time())?)
}

/// The sum of utime, stime, cutime and cstime. The name before them, in parentheses, may have any character.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let times: Vec<u64> = fields.split(' ').skip(11).take(4).map_while(|time| time.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::process::Command;

    #[test]
    fn four_times_follow_the_name() {
        let stat = "7 (a) (b c) Z 1 7 7 0 -1 4 0 0 0 0 100 20 3000 400 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(3520));
        assert_eq!(ticks("7 (a) Z 1 7"), None);
    }

    #[test]
    fn the_time_of_a_child_is_included() {
        let script = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; exit 3";
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let (status, cpu) = wait(&mut child).unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(cpu > Duration::ZERO);
    }
}
