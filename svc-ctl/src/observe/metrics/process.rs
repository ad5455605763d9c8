//! The daemon as a process, with the names and meanings of Prometheus' own process collector.

use std::fmt;
use std::fs;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use tokio::runtime::Handle;

use super::Part;
use super::page::Page;

/// Resources that the process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub cpu_seconds: f64,
    pub start_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub most_virtual_bytes: u64,
    pub open_fds: u64,
    pub most_fds: u64,
    pub tasks: u64,
}

/// Reads the resources that the process has used.
#[derive(Clone)]
pub struct Reader(pub Arc<dyn Fn() -> Option<Process> + Send + Sync>);

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

/// Reads this process. Its tasks are those of the runtime that calls this.
pub fn own() -> Reader {
    let runtime = Handle::try_current().ok();
    Reader(Arc::new(move || {
        let tasks = runtime.as_ref().map_or(0, |runtime| runtime.metrics().num_alive_tasks()) as u64;
        let (stat, boot) =
            (fs::read_to_string("/proc/self/stat").ok()?, fs::read_to_string("/proc/stat").ok()?);
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        let limit = |resource| getrlimit(resource).map_or(u64::MAX, |(soft, _)| soft);
        let process = Process {
            tasks,
            // The descriptor by which the directory was read is gone.
            open_fds: open_fds.saturating_sub(1),
            most_fds: limit(Resource::RLIMIT_NOFILE),
            most_virtual_bytes: limit(Resource::RLIMIT_AS),
            ..Process::default()
        };
        parse(&stat, &boot, unit(SysconfVar::CLK_TCK), unit(SysconfVar::PAGE_SIZE), process)
    }))
}

fn unit(name: SysconfVar) -> u64 {
    sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(1).max(1)
}

/// Adds the values of `/proc/self/stat` and `/proc/stat` to `process`.
fn parse(stat: &str, boot: &str, ticks: u64, page: u64, process: Process) -> Option<Process> {
    // The name of the program stands in parentheses and may have any character in it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let booted = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<u64>().ok()?;
    let seconds = |in_ticks: u64| in_ticks as f64 / ticks as f64;
    Some(Process {
        cpu_seconds: seconds(field(14)? + field(15)?),
        start_seconds: booted as f64 + seconds(field(22)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
        ..process
    })
}

impl Part for Reader {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(process) = (self.0)() else { return Ok(()) };
        page.fraction_counter(
            "process_cpu_seconds",
            "CPU time of the daemon in seconds, in user and kernel mode.",
            process.cpu_seconds,
        )?;
        let start = "When the daemon started, in seconds since 1970.";
        page.gauge("process_start_time_seconds", start, process.start_seconds)?;
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory in octets.", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory in octets.", process.virtual_bytes),
            (
                "process_virtual_memory_max_bytes",
                "Limit of virtual memory in octets; the largest number means none.",
                process.most_virtual_bytes,
            ),
            ("process_open_fds", "Open file descriptors.", process.open_fds),
            ("process_max_fds", "Limit of open file descriptors.", process.most_fds),
            ("svc_tasks", "Tasks of the daemon's runtime that are alive.", process.tasks),
        ];
        gauges.into_iter().try_for_each(|(name, help, value)| page.gauge(name, help, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_move_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1000 4096 3 99";
        let process = parse(stat, "cpu 1\nbtime 500\n", 100, 4096, Process::default()).unwrap();
        assert_eq!((process.cpu_seconds, process.start_seconds), (2.0, 510.0));
        assert_eq!((process.virtual_bytes, process.resident_bytes), (4096, 12_288));
    }
}
