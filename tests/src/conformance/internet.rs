//! The hub as the world outside: hosts of the internet that some specs dial, and the address from which specs dial load balancers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::thread;

use anyhow::{Context as _, Result};

use crate::cluster::addresses::LOAD_BALANCERS;
use crate::cluster::hub::BRIDGE;
use crate::netns::Netns;

/// Hosts that the specs dial: a public name server (TCP), and a web server, whose name tests/cluster/dns.yaml gives the first address.
const HOSTS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
];
const PORTS: [u16; 2] = [53, 80];
/// The suite's own addresses for load balancers: a spec wants its client outside of the nodes' network.
const CLIENT: [&str; 2] = ["198.51.100.1", "2001:db8:51::1"];

/// Listens in the hub until the process ends. The addresses stay with the cluster.
pub fn stand_in(hub: &Netns) -> Result<()> {
    let [v4, v6] = CLIENT;
    let addresses = HOSTS.map(|host| host.to_string()).into_iter().chain(CLIENT.map(str::to_owned));
    let mut lines: Vec<_> = addresses.map(|address| format!("addr replace {address} dev lo")).collect();
    lines.extend(
        LOAD_BALANCERS
            .iter()
            .zip([v4, v6])
            .map(|(network, source)| format!("route replace {network} dev {BRIDGE} src {source}")),
    );
    hub.ip(&lines.join("\n"))?;
    let listeners = hub.within(|| {
        let listen = |at: (IpAddr, u16)| TcpListener::bind(at).with_context(|| format!("listen at {at:?}"));
        let each = HOSTS.iter().flat_map(|host| PORTS.map(|port| (*host, port)));
        each.map(listen).collect::<Result<Vec<_>>>()
    })?;
    for listener in listeners {
        // The specs only connect.
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    Ok(())
}
