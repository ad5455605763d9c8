//! Hosts of the internet that some specs dial, in the hub: the cluster has no way to the real ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::thread;

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// Hosts that the specs dial: a public name server (TCP), and a web server, whose name tests/cluster/dns.yaml gives the first address.
const HOSTS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
];
const PORTS: [u16; 2] = [53, 80];

/// Listens in the hub until the process ends. The addresses stay with the cluster.
pub fn stand_in(hub: &Netns) -> Result<()> {
    hub.ip(&HOSTS.map(|host| format!("addr replace {host} dev lo")).join("\n"))?;
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
