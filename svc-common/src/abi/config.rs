//! Configuration that is fixed while a program is loaded: read-only data, by which the verifier prunes dead code.

use super::abi;

/// The global `CONFIG` of the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// `SO_NETNS_COOKIE` of the node's network namespace, low word first: tells host processes from pods.
    pub host_netns: [u32; 2],
    /// First port of the SNAT range (host order) and how many there are.
    pub snat_first: u16,
    pub snat_count: u16,
    /// 1: the cgroup hooks also serve the sockets of pods (ClusterIP only).
    pub pod_sockets: u8,
    /// 1: the kernel knows `BPF_F_IPV6` of `bpf_l4_csum_replace` (6.16).
    pub csum_ipv6_flag: u8,
    /// 1: `bpf_set_retval` may be called from connect and sendmsg hooks (5.18).
    pub set_retval: u8,
    /// 1: `bpf_fib_lookup` tells the preferred source of a route (6.7).
    pub fib_source: u8,
    /// 1: who is a local pod is told by its source address (`PrefixList::LOCAL_PODS`) and not by its interface.
    pub pods_by_source: u8,
    /// 1: what is sent to an address of `PrefixList::SERVICE_CIDRS` that no Service has is dropped (SEM-095).
    pub service_cidrs: u8,
    /// How many ports of the SNAT range the search steps through: the largest prime that is not above their number, so that
    /// every stride reaches all of them ([`snat_ring`](crate::datapath::select::snat_ring)).
    pub snat_ring: u16,
}

abi! { Config = 20 }
