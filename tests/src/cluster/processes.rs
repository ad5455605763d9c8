//! Processes below a cgroup, and their names.

use std::fs;
use std::path::Path;

/// Visits every process with its cgroup, from the top down.
pub(super) fn visit(cgroup: &Path, act: &mut impl FnMut(&Path, u32)) {
    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.lines().filter_map(|line| line.parse().ok()).for_each(|pid| act(cgroup, pid));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), act);
        }
    }
}

/// The file name of its program; empty if it has ended.
pub(super) fn program(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = line.split(|octet| *octet == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    Path::new(program.as_ref()).file_name().unwrap_or_default().display().to_string()
}
