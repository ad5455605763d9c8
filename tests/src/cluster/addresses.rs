//! Addresses on the hub's network, and the ranges of Services and pods.

use std::net::{Ipv4Addr, Ipv6Addr};

pub use crate::topology::Addrs;

pub const HUB: Addrs = on_hub(1, 1);
/// A machine outside the cluster.
pub const CLIENT: Addrs = on_hub(200, 0x200);

/// Networks inside the hub's for Services of type LoadBalancer.
pub const LOAD_BALANCERS: [&str; 2] = ["172.30.0.224/28", "fd00:30::2000/120"];

/// Dual stack, IPv4 first, in the components' syntax.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:96::/112";
pub const POD_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd00:244::/56"];

/// The Service `kubernetes`, which the API server's certificate must name.
pub const KUBERNETES: Addrs = service(1);
/// The Service of the cluster's DNS.
pub const DNS: Addrs = service(0xa);

pub const API_PORT: u16 = 26443;
pub const CONTROLLER_MANAGER_PORT: u16 = 26444;
pub const SCHEDULER_PORT: u16 = 26445;
pub const ETCD_PORT: u16 = 33790;
pub const ETCD_PEER_PORT: u16 = 33800;

/// Node 1 is 172.30.0.11 and fd00:30::11.
pub const fn node(index: u8) -> Addrs {
    on_hub(10 + index, 0x10 + index as u16)
}

/// An address of a node's pods, which have a /24 and a /64; the first one is the node's own.
pub const fn pod(node: u8, host: u8) -> Addrs {
    Addrs {
        v4: Ipv4Addr::new(10, 244, node, host),
        v6: Ipv6Addr::new(0xfd00, 0x244, 0, node as u16, 0, 0, 0, host as u16),
    }
}

pub fn pod_cidrs(node: u8) -> [String; 2] {
    let Addrs { v4, v6 } = pod(node, 0);
    [format!("{v4}/24"), format!("{v6}/64")]
}

const fn on_hub(v4: u8, v6: u16) -> Addrs {
    Addrs { v4: Ipv4Addr::new(172, 30, 0, v4), v6: Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, v6) }
}

const fn service(host: u8) -> Addrs {
    Addrs { v4: Ipv4Addr::new(10, 96, 0, host), v6: Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, host as u16) }
}
