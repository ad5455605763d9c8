//! Settings of a careful administrator and of a CNI on a node, which a service datapath must tolerate.

use anyhow::Result;

use super::addresses::{PODS_V4, PODS_V6};
use super::{Forwards, addresses};
use crate::netns::Netns;

/// Strict reverse path filter and no local sources on every present and future interface; forwarding on.
pub(super) fn strict_sysctls(netns: &Netns) -> Result<()> {
    addresses::no_waiting_for_dad(netns)?;
    netns.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
    ["all", "default", "lo"].iter().try_for_each(|interface| strict_interface(netns, interface))
}

pub(super) fn strict_interface(netns: &Netns, interface: &str) -> Result<()> {
    let conf = format!("net/ipv4/conf/{interface}");
    netns.sysctl(&[(&format!("{conf}/rp_filter"), "1"), (&format!("{conf}/accept_local"), "0")])
}

/// Needs a bridge in the namespace: without one the settings do not exist on every kernel.
pub(super) fn bridge_netfilter(netns: &Netns, on: bool) -> Result<()> {
    let value = if on { "1" } else { "0" };
    let keys = ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];
    keys.iter().try_for_each(|key| netns.sysctl(&[(key, value)]))
}

/// FORWARD rules like those of firewalls, and pod egress masqueraded as by a CNI with `ipMasq: true`.
pub(super) fn strict_rules(netns: &Netns, node: u8, forwards: Forwards) -> Result<()> {
    let subnet = addresses::pod(node, 0);
    let new = match forwards {
        Forwards::Valid => "ct state new counter accept".to_owned(),
        Forwards::ByDefault => String::new(),
        Forwards::OfPods => [("ip", PODS_V4), ("ip6", PODS_V6)]
            .map(|(ip, pods)| format!("{ip} saddr {pods} counter accept\n{ip} daddr {pods} counter accept\n"))
            .concat(),
    };
    let policy = if forwards == Forwards::ByDefault { "accept" } else { "drop" };
    netns.nft(&format!(
        "table inet strict {{
            chain forward {{
                type filter hook forward priority filter; policy {policy};
                ct state invalid counter drop
                # Conntrack does not track these; bridged pods find each other by them.
                icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} counter accept
                ct state established,related counter accept
                {new}
            }}
        }}
        table inet cni {{
            chain postrouting {{
                type nat hook postrouting priority srcnat;
                ip saddr {v4}/24 ip daddr != {v4}/24 ip daddr != 224.0.0.0/4 counter masquerade
                ip6 saddr {v6}/64 ip6 daddr != {v6}/64 ip6 daddr != ff00::/8 counter masquerade
            }}
        }}",
        v4 = subnet.v4,
        v6 = subnet.v6,
    ))
}
