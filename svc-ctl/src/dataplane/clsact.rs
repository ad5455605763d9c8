//! Our clsact filters (kernels without tcx): checks for them, and removes them with their qdiscs.

use std::collections::BTreeMap;
use std::io;

use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;
use nix::net::if_::if_nameindex;

use super::hooks::{CLSACT_PRIORITY, TcHook};
use super::netlink;

pub(super) const PROGRAMS: [(&str, TcAttachType); 6] = [
    ("pod_ingress", TcAttachType::Ingress),
    ("pod_egress", TcAttachType::Egress),
    ("uplink_ingress", TcAttachType::Ingress),
    ("uplink_egress", TcAttachType::Egress),
    ("tunnel_ingress", TcAttachType::Ingress),
    ("tunnel_egress", TcAttachType::Egress),
];

/// Removes our filters from every interface; returns the number of programs.
pub fn remove_all() -> anyhow::Result<usize> {
    Ok(interfaces()?.iter().map(|(index, name)| remove(*index, name)).sum())
}

/// Every interface of this network namespace, by index.
pub fn interfaces() -> io::Result<BTreeMap<u32, String>> {
    let named = |i: &nix::net::if_::Interface| (i.index(), i.name().to_string_lossy().into_owned());
    Ok(if_nameindex()?.iter().map(named).collect())
}

/// Removes our filters from an interface, and the qdisc if they were the last in it; returns the number of filters.
pub fn remove(index: u32, name: &str) -> usize {
    // No such filter, qdisc or interface: the filter is gone, as wanted.
    let is_gone = |(program, hook): &(&str, TcAttachType)| qdisc_detach_program(name, *hook, program).is_ok();
    let removed = PROGRAMS.iter().filter(|p| is_gone(p)).count();
    if removed != 0 && is_empty(index) {
        // An empty qdisc of another program stays; this one had our filters.
        if let Err(err) = netlink::remove_clsact(index) {
            tracing::warn!(interface = name, %err, "cannot remove an empty clsact qdisc");
        }
    }
    removed
}

/// Our filter is attached there.
pub fn is_attached(index: u32, hook: TcHook) -> bool {
    netlink::filter_priorities(index, hook).is_ok_and(|all| all.contains(&CLSACT_PRIORITY))
}

fn is_empty(index: u32) -> bool {
    [TcHook::Ingress, TcHook::Egress]
        .into_iter()
        .all(|hook| netlink::filter_priorities(index, hook).is_ok_and(|all| all.is_empty()))
}
