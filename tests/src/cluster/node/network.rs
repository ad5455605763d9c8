//! A machine on the hub's bridge, and a node's usual network settings.

use anyhow::Result;

use crate::cluster::addresses::{self, Addrs, HUB};
use crate::cluster::hub::BRIDGE;
use crate::netns::Netns;

/// A network namespace with `eth0` on the hub's bridge, a port named after the host, and a default route by the hub.
pub(in crate::cluster) fn machine(hub: &Netns, name: &str, port: &str, address: Addrs) -> Result<Netns> {
    let netns = Netns::new(name)?;
    hub.ip(&format!(
        "link add {port} type veth peer name eth0 netns {name}\n\
         link set {port} master {BRIDGE} up"
    ))?;
    netns.ip(&format!(
        "link set eth0 up\n\
         addr add {}/24 dev eth0\n\
         addr add {}/64 dev eth0 nodad\n\
         route add default via {}\n\
         route add default via {}",
        address.v4, address.v6, HUB.v4, HUB.v6
    ))?;
    Ok(netns)
}

/// Adds the route to the pods of a node.
pub(in crate::cluster) fn route_pods(netns: &Netns, node: u8) -> Result<()> {
    let ([v4, v6], via) = (addresses::pod_cidrs(node), addresses::node(node));
    netns.ip(&format!("route add {v4} via {}\nroute add {v6} via {}", via.v4, via.v6))
}

pub(super) fn forward(netns: &Netns, strict: bool) -> Result<()> {
    netns.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
    // The CNI sets the pods' gateway address again with each pod. Duplicate address detection would take a second or
    // two, in which a ready pod would be unreachable.
    netns.sysctl(&[("net/ipv6/conf/default/accept_dad", "0")])?;
    let filter = if strict { "1" } else { "0" };
    for interface in ["all", "default", "eth0", "lo"] {
        netns.sysctl(&[(&format!("net/ipv4/conf/{interface}/rp_filter"), filter)])?;
    }
    if strict { drop_invalid(netns) } else { Ok(()) }
}

/// A FORWARD rule like those of firewalls.
fn drop_invalid(netns: &Netns) -> Result<()> {
    netns.nft(
        "table inet strict {
            chain forward {
                type filter hook forward priority filter; policy accept;
                ct state invalid counter drop
            }
        }",
    )
}
