//! Configuration that is fixed while a program is loaded: read-only data, by which the verifier prunes dead code.

use super::{PodSockets, abi};

/// The global `CONFIG` of the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// `SO_NETNS_COOKIE` of the node's network namespace, low word first. Distinguishes host processes from pods.
    pub host_netns: [u32; 2],
    /// First port of the SNAT range (host order), and the number of ports.
    pub snat_first: u16,
    pub snat_count: u16,
    /// Whether the cgroup hooks also serve the sockets of pods (ClusterIP only).
    pub pod_sockets: PodSockets,
    /// 1: the kernel knows `BPF_F_IPV6` of `bpf_l4_csum_replace` (6.16).
    pub csum_ipv6_flag: u8,
    /// 1: `bpf_set_retval` may be called from connect and sendmsg hooks (5.18).
    pub set_retval: u8,
    /// 1: `bpf_fib_lookup` returns the preferred source of a route (6.7).
    pub fib_source: u8,
    /// 1: local pods are recognised by source address (`PrefixList::LOCAL_PODS`) and not by interface.
    pub pods_by_source: u8,
    /// 1: packets to an unallocated address of `PrefixList::SERVICE_CIDRS` are dropped (SEM-095).
    pub service_cidrs: u8,
    /// 1: packets to a port of an external or load-balancer address that no Service has are dropped (SEM-096 leaves them
    /// alone).
    pub drops_unknown_ports: u8,
    /// 1: packets from outside to an address of `PrefixList::POOLS` that no Service has are dropped (SEM-315).
    pub pools: u8,
    pub _pad: [u8; 2],
    /// Number of ports that the search for a source port steps through: the largest prime that does not exceed
    /// `snat_count`, so that every stride reaches all of them ([`snat_ring`](crate::datapath::select::snat_ring)).
    pub snat_ring: u16,
    /// Nanoseconds between two new flows of one CPU on average (`--new-flow-limit`). 0: there is no limit.
    pub new_flow_interval: u32,
}

abi! { Config = 28 }
