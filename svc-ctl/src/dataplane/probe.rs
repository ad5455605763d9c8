//! Tests the rights of this process, and lists the programs at an interface's hooks. Changes nothing.

use std::io;
use std::path::Path;

use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::attach::TcHook;
use super::clsact::PROGRAMS;
use super::sys::{self, MapKind, MapShape};

/// Makes a map and closes it.
pub fn try_map() -> io::Result<()> {
    let shape = MapShape {
        name: "svc_check",
        kind: MapKind::LruHash,
        key_size: 4,
        value_size: 4,
        max_entries: 64,
        flags: 0,
    };
    sys::create_map(&shape).map(drop)
}

/// Reads the cookie of this network namespace.
pub fn try_netns_cookie() -> io::Result<()> {
    sys::netns_cookie().map(drop)
}

pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|kind| kind.filesystem_type() == BPF_FS_MAGIC)
}

/// Programs at a tcx hook of an interface, in the order in which they run: ids and names. `None` if the kernel has no
/// tcx or the interface is gone.
pub fn tcx_programs(interface: &str, hook: TcHook) -> Option<Vec<(u32, String)>> {
    let hook = match hook {
        TcHook::Ingress => TcAttachType::Ingress,
        TcHook::Egress => TcAttachType::Egress,
    };
    let (_, programs) = SchedClassifier::query_tcx(interface, hook).ok()?;
    let named = |program: &ProgramInfo| (program.id(), program.name_as_str().unwrap_or_default().to_owned());
    Some(programs.iter().map(named).collect())
}

/// The name is that of one of svc's programs for interfaces.
pub fn is_ours(program: &str) -> bool {
    PROGRAMS.iter().any(|(own, _)| *own == program)
}
