//! The network namespace in the middle: a bridge with a port for every node, and the control plane.
//!
//! It is linked to nothing else, so no address or port in it can be in use, whatever the machine runs.

use std::path::Path;

use anyhow::Result;

use super::addresses::HUB;
use crate::netns::Netns;

pub(crate) const BRIDGE: &str = "br0";

pub(super) fn make(name: &str) -> Result<Netns> {
    let netns = Netns::new(name)?;
    netns.ip(&format!(
        "link add {BRIDGE} type bridge\n\
         link set {BRIDGE} up\n\
         addr add {}/24 dev {BRIDGE}\n\
         addr add {}/64 dev {BRIDGE} nodad",
        HUB.v4, HUB.v6
    ))?;
    netns.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
    leave_bridged_packets_alone(&netns)?;
    Ok(netns)
}

/// Keeps the hub's netfilter away from packets between nodes.
fn leave_bridged_packets_alone(netns: &Netns) -> Result<()> {
    ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"]
        .iter()
        .filter(|key| Path::new("/proc/sys").join(key).exists())
        .try_for_each(|key| netns.sysctl(&[(key, "0")]))
}
