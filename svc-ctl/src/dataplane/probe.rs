//! Tests the rights of this process, and lists the programs at an interface's hooks. Changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier, loaded_programs};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::clsact::PROGRAMS;
use super::hooks::{CLSACT_PRIORITY, TcHook, XdpMode};
use super::netlink;
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

/// Programs at a TC hook of an interface, in the order in which they run: names, and whether each is svc's. The kernel
/// runs filters of clsact after the programs of tcx, by priority.
pub fn tc_programs(interface: &str, index: u32, hook: TcHook) -> Vec<(String, bool)> {
    let mut priorities = netlink::filter_priorities(index, hook).unwrap_or_default();
    priorities.sort_unstable();
    priorities.dedup();
    let filter = |priority| (format!("a filter of priority {priority}"), priority == CLSACT_PRIORITY);
    let tcx = tcx_programs(interface, hook).unwrap_or_default().into_iter();
    let tcx = tcx.map(|(_, name)| {
        let is_ours = is_ours(&name);
        (name, is_ours)
    });
    tcx.chain(priorities.into_iter().map(filter)).collect()
}

/// Programs at a tcx hook of an interface, in the order in which they run: ids and names. `None` if the kernel has no
/// tcx or the interface is gone.
pub fn tcx_programs(interface: &str, hook: TcHook) -> Option<Vec<(u32, String)>> {
    let hook = match hook {
        TcHook::Ingress => TcAttachType::Ingress,
        TcHook::Egress => TcAttachType::Egress,
    };
    let (_, programs) = SchedClassifier::query_tcx(interface, hook).ok()?;
    Some(programs.iter().map(|program| (program.id(), name(program))).collect())
}

/// The XDP programs of this network namespace by the indices of their interfaces, likewise.
pub fn xdp_programs() -> BTreeMap<u32, (String, bool)> {
    let found = netlink::xdp_programs().unwrap_or_default();
    if found.is_empty() {
        return BTreeMap::new();
    }
    let names: BTreeMap<u32, String> =
        loaded_programs().flatten().map(|program| (program.id(), name(&program))).collect();
    let program = |id: u32| match names.get(&id) {
        Some(name) => (name.clone(), is_ours(name)),
        None => (format!("program {id}"), false),
    };
    found.into_iter().map(|(index, id)| (index, program(id))).collect()
}

fn name(program: &ProgramInfo) -> String {
    program.name_as_str().unwrap_or_default().to_owned()
}

/// The name is that of one of svc's programs for interfaces.
fn is_ours(program: &str) -> bool {
    let xdp = [XdpMode::Native, XdpMode::Generic].map(XdpMode::program);
    PROGRAMS.iter().any(|(own, _)| *own == program) || xdp.contains(&program)
}
