//! Who has which address on the hub's network, and the ranges of services and pods.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const HUB_V4: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
pub const HUB_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 1);

/// Dual stack, IPv4 first, as the components take them.
pub const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:96::/112";
pub const POD_CIDRS: &str = "10.244.0.0/16,fd00:244::/56";

/// ClusterIPs of the Service `kubernetes`, which the API server's certificate must name.
pub const KUBERNETES_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub const KUBERNETES_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 1);

pub const API_PORT: u16 = 26443;
pub const CONTROLLER_MANAGER_PORT: u16 = 26444;
pub const SCHEDULER_PORT: u16 = 26445;
pub const ETCD_PORT: u16 = 33790;
pub const ETCD_PEER_PORT: u16 = 33800;
