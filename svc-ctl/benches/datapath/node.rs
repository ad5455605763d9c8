//! A node in a network namespace of its own: one uplink, a gateway to the clients, another node with the backends.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::family::{Family, V4, V6};

use crate::packet::Mac;

pub const UPLINK_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// MAC of the node with the backends, which is also the gateway to the clients.
pub const REMOTE_MAC: Mac = [2, 0, 0, 0, 0, 2];
pub const GATEWAY_MAC: Mac = [2, 0, 0, 0, 0, 9];

pub const NODE_PORT: u16 = 30_080;
pub const SERVICE_PORT: u16 = 80;
pub const BACKEND_PORT: u16 = 8080;
/// Enough backends for a full flow table with the masquerade's ports.
pub const BACKENDS: u8 = 64;

/// Addresses of a family.
pub trait Plan: Family {
    fn client() -> Self::Addr;
    fn second_client() -> Self::Addr;
    fn node() -> Self::Addr;
    /// Counted from 1.
    fn backend(number: u8) -> Self::Addr;
    fn local_backend() -> Self::Addr;
    fn cluster_ip() -> Self::Addr;
    /// Frontend address of one of many other Services, counted from 0.
    fn other_service(number: u32) -> Self::Addr;
}

impl Plan for V4 {
    fn client() -> AddrV4 {
        AddrV4::new([198, 18, 0, 10])
    }

    fn second_client() -> AddrV4 {
        AddrV4::new([198, 18, 0, 11])
    }

    fn node() -> AddrV4 {
        AddrV4::new([192, 0, 2, 1])
    }

    fn backend(number: u8) -> AddrV4 {
        AddrV4::new([10, 244, 2, number])
    }

    fn local_backend() -> AddrV4 {
        AddrV4::new([10, 244, 1, 5])
    }

    fn cluster_ip() -> AddrV4 {
        AddrV4::new([10, 96, 0, 10])
    }

    fn other_service(number: u32) -> AddrV4 {
        let [_, b, c, d] = number.to_be_bytes();
        AddrV4::new([10, 100 + b, c, d])
    }
}

impl Plan for V6 {
    fn client() -> AddrV6 {
        AddrV6::new([0x20, 1, 0xd, 0xb8, 0, 0xc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a])
    }

    fn second_client() -> AddrV6 {
        AddrV6::new([0x20, 1, 0xd, 0xb8, 0, 0xc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b])
    }

    fn node() -> AddrV6 {
        AddrV6::new([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    }

    fn backend(number: u8) -> AddrV6 {
        AddrV6::new([0xfd, 0, 0, 0x10, 2, 0x44, 0, 2, 0, 0, 0, 0, 0, 0, 0, number])
    }

    fn local_backend() -> AddrV6 {
        AddrV6::new([0xfd, 0, 0, 0x10, 2, 0x44, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5])
    }

    fn cluster_ip() -> AddrV6 {
        AddrV6::new([0xfd, 0, 0, 0x10, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10])
    }

    fn other_service(number: u32) -> AddrV6 {
        let [_, b, c, d] = number.to_be_bytes();
        AddrV6::new([0xfd, 0, 0, 0x10, 0, 0x96, 0, 1, 0, 0, 0, 0, 0, b, c, d])
    }
}

const COMMANDS: &str = "
link set lo up
link add up0 address 02:00:00:00:00:01 type veth peer name far0
link set far0 up
link set up0 up
addr add 192.0.2.1/24 dev up0
addr add 2001:db8:2::1/64 dev up0 nodad
neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev up0 nud permanent
neigh replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev up0 nud permanent
neigh replace 2001:db8:2::2 lladdr 02:00:00:00:00:02 dev up0 nud permanent
neigh replace 2001:db8:2::9 lladdr 02:00:00:00:00:09 dev up0 nud permanent
route add 10.244.2.0/24 via 192.0.2.2
route add 198.18.0.0/16 via 192.0.2.9
route add fd00:10:244:2::/64 via 2001:db8:2::2
route add 2001:db8:c::/64 via 2001:db8:2::9
";

/// Makes the namespace (it ends with this process) and returns the uplink's index.
pub fn enter() -> Result<u32> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("a network namespace (needs root)")?;
    for command in COMMANDS.lines().filter(|line| !line.is_empty()) {
        let output = Command::new("ip").args(command.split(' ')).output().context("ip")?;
        ensure!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for sysctl in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{sysctl}"), "1").context(sysctl)?;
    }
    nix::net::if_::if_nametoindex("up0").context("up0")
}
