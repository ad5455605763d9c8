//! This node: its interfaces and addresses, live, the one role each interface has, and its cgroup.

pub mod cgroup;
pub mod netns;
pub mod roles;
pub mod snat;
pub mod snat_ports;
pub mod watch;

use std::net::IpAddr;

/// An interface as the kernel tells it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub is_up: bool,
    pub is_loopback: bool,
    /// Packets carry an Ethernet header.
    pub is_ethernet: bool,
    pub is_bridge: bool,
    /// Index of the interface it is a port of (bridge, bond).
    pub master: Option<u32>,
    /// Index of the interface that it is a VLAN of, if that is in this network namespace.
    pub vlan_over: Option<u32>,
    /// Global addresses, in the kernel's order: primary ones first, deprecated ones last.
    pub addrs: Vec<IpAddr>,
    /// Link-layer address; zero where there is none of six octets.
    pub mac: [u8; 6],
    /// Kernel driver (`veth`, `bridge`, ...) where the kernel tells it.
    pub kind: String,
}

/// All interfaces at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interfaces {
    pub list: Vec<Interface>,
}

impl Interfaces {
    /// Some of its frames are another interface's: those of a VLAN.
    pub fn carries_vlans(&self, index: u32) -> bool {
        self.list.iter().any(|i| i.vlan_over == Some(index))
    }
}
