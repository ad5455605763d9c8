//! A pod and its link to the node, of either kind.

use std::time::Duration;

use anyhow::Result;

use super::{Addrs, Host, addresses, firewall};
use crate::netns::Netns;
use crate::{command, wait};

/// The MAC of every routed host end, as in Calico.
const HOST_END: &str = "ee:ee:ee:ee:ee:ee";

const LINK_LIMIT: Duration = Duration::from_secs(5);

/// Linux allows interface names of at most 15 octets.
const NAME_LIMIT: usize = 15;

/// A pod; its host end in the node is called `interface`.
#[derive(Debug)]
pub struct Pod {
    pub host: Host,
    pub interface: String,
}

pub(super) fn interface_name(prefix: &str, pod: &str) -> String {
    format!("{prefix}{pod}").chars().take(NAME_LIMIT).collect()
}

impl Pod {
    /// The host end has no address; the pod's gateway is a link-local address with a permanent neighbor.
    pub(super) fn link_routed(&self, node: &Netns) -> Result<()> {
        self.plug(node)?;
        let Addrs { v4, v6 } = self.host.addrs;
        let veth = &self.interface;
        node.ip(&format!(
            "link set {veth} address {HOST_END} up\n\
             route add {v4}/32 dev {veth} scope link\nroute add {v6}/128 dev {veth}"
        ))?;
        self.host.netns.ip(&format!(
            "addr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\nlink set eth0 up\n\
             route add 169.254.1.1 dev eth0 scope link\nroute add default via 169.254.1.1\n\
             neigh add 169.254.1.1 lladdr {HOST_END} dev eth0 nud permanent\n\
             route add default via fe80::1 dev eth0\n\
             neigh add fe80::1 lladdr {HOST_END} dev eth0 nud permanent"
        ))
    }

    /// The host end is a port of cni0, whose address is the pod's gateway.
    pub(super) fn link_bridged(&self, node: &Netns, gateway: Addrs) -> Result<()> {
        self.plug(node)?;
        node.ip(&format!("link set {} master cni0 up", self.interface))?;
        let Addrs { v4, v6 } = self.host.addrs;
        self.host.netns.ip(&format!(
            "addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via {}\nroute add default via {}",
            gateway.v4, gateway.v6
        ))
    }

    /// Waits until both ends send. An interface that is up drops packets until the kernel's link watch has activated
    /// its queue, which on a busy machine takes longer than a client waits.
    pub(super) fn await_link(&self, node: &Netns) -> Result<()> {
        [(node, self.interface.as_str()), (&self.host.netns, "eth0")].into_iter().try_for_each(
            |(netns, interface)| {
                wait::until_true(&format!("{interface} of {} sends", netns.name()), LINK_LIMIT, || {
                    let shown = command::run(netns.command("ip")?.args(["-o", "link", "show", interface]))?;
                    Ok(shown.contains("state UP") && !shown.contains("qdisc noop "))
                })
            },
        )
    }

    fn plug(&self, node: &Netns) -> Result<()> {
        let pod = &self.host.netns;
        addresses::no_waiting_for_dad(pod)?;
        node.ip(&format!("link add {} type veth peer name eth0 netns {}", self.interface, pod.name()))?;
        firewall::strict_interface(node, &self.interface)
    }
}
