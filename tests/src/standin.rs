//! Replaces svc by nft rules like kube-proxy's: shows that the harness can pass and can fail.

use std::fmt::Write;
use std::net::IpAddr;

use anyhow::Result;

use crate::manifests::{SERVER_PORT, SERVICE_PORT, Service};
use crate::topology::{Family, Node};

/// Translates the Services (one backend each) on a node by conntrack.
pub fn install(node: &Node, services: &[Service]) -> Result<()> {
    let mut dnat = String::new();
    let mut masquerade = String::new();
    for service in services {
        let Some(backend) = service.backends.first() else { continue };
        for family in Family::BOTH {
            let (to, cluster) = (backend.addrs.of(family), service.cluster.of(family));
            let own = node.host.addrs.of(family);
            let (ip, shown) = words(to);
            for protocol in ["tcp", "udp"] {
                let node_port = service.node_port;
                // Writing to a String cannot fail.
                let _ = writeln!(
                    dnat,
                    "{ip} daddr {cluster} {protocol} dport {SERVICE_PORT} dnat {ip} to {shown}:{SERVER_PORT}\n\
                     {ip} daddr {own} {protocol} dport {node_port} dnat {ip} to {shown}:{SERVER_PORT}"
                );
                if let Some(external) = service.external {
                    let external = external.of(family);
                    let _ = writeln!(
                        dnat,
                        "{ip} daddr {external} {protocol} dport {SERVICE_PORT} dnat {ip} to {shown}:{SERVER_PORT}"
                    );
                }
            }
            let _ = writeln!(masquerade, "{ip} saddr {to} {ip} daddr {to} masquerade");
            if backend.node != node.name() {
                let _ = writeln!(masquerade, "{ip} daddr {to} ct status dnat masquerade");
            }
        }
    }
    node.host.netns.nft(&format!(
        "table inet standin {{
            chain services {{ {dnat} }}
            chain in {{ type nat hook prerouting priority dstnat; jump services; }}
            chain out {{ type nat hook output priority -100; jump services; }}
            chain post {{
                type nat hook postrouting priority 90;
                {masquerade}
                ct status dnat fib saddr type local masquerade
            }}
        }}"
    ))
}

/// Removes the rules. Existing connections go on.
pub fn remove(node: &Node) -> Result<()> {
    node.host.netns.nft("delete table inet standin")
}

/// nft's keyword for the family, and the syntax of an address before a port.
fn words(address: IpAddr) -> (&'static str, String) {
    match address {
        IpAddr::V4(v4) => ("ip", v4.to_string()),
        IpAddr::V6(v6) => ("ip6", format!("[{v6}]")),
    }
}
