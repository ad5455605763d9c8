//! What the kernel lets this process do, tried; and whose programs are at an interface's hooks. Nothing is changed.

use std::io;
use std::path::Path;

use aya::programs::SchedClassifier;
use aya::programs::tc::TcAttachType;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::clsact::PROGRAMS;
use super::sys::{self, MapKind, MapShape};

/// Makes a map and lets it go.
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

/// Asks for the cookie of this network namespace.
pub fn try_netns_cookie() -> io::Result<()> {
    sys::netns_cookie().map(drop)
}

pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|kind| kind.filesystem_type() == BPF_FS_MAGIC)
}

/// Programs at the two tcx hooks of an interface, in their order: names, and whether each is one of ours. Nothing where the
/// kernel has no tcx.
pub fn programs_at(interface: &str) -> Vec<(&'static str, Vec<(String, bool)>)> {
    let hooks = [("ingress", TcAttachType::Ingress), ("egress", TcAttachType::Egress)];
    let programs = |(direction, hook)| {
        let (_, programs) = SchedClassifier::query_tcx(interface, hook).ok()?;
        let named = programs.iter().map(|program| {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            let is_ours = PROGRAMS.iter().any(|(own, _)| *own == name);
            (name, is_ours)
        });
        Some((direction, named.collect()))
    };
    hooks.into_iter().filter_map(programs).collect()
}
