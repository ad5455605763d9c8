//! All that the pipeline needs of an address family.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use svc_common::abi::{FlowKey, FlowRecord};
use svc_common::wire::icmp::Icmp;

use crate::fib::FibWords;
use crate::tables::Tables;

/// The global functions, by address family. They take a packet from the scratch space.
pub trait Global: Tables {
    /// [`crate::choose::choose_backend`]
    fn choose_at_tc(skb: *mut __sk_buff) -> u32;
    fn choose_at_xdp(frame: *mut xdp_md) -> u32;
    /// [`crate::new_flow::begin`]
    fn begin_at_tc(skb: *mut __sk_buff, role: u32) -> u32;
    fn begin_at_xdp(frame: *mut xdp_md, role: u32) -> u32;
    /// [`crate::new_flow::begin_direct`]
    fn begin_direct() -> u32;
    /// [`crate::new_flow::begin_second`]
    fn begin_second() -> u32;
    /// [`crate::source_port::claim`]
    fn claim(takes_port: u32, now: u32) -> u32;
    /// [`crate::icmp::report`]
    fn reject_at_tc(skb: *mut __sk_buff, problem: u32) -> i32;
    fn reject_at_tunnel(skb: *mut __sk_buff, problem: u32) -> i32;
    /// The change of the checksum of an SCTP packet of `length` octets whose ports change by these bits, as they lie in
    /// the packet.
    fn sctp_delta(flipped: u32, length: u32) -> u32;
    /// The sum's change if a packet with this key gets the record's addresses ([`crate::record::addr_delta`]).
    fn wildcard_delta(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) -> u32;
    /// [`crate::record::refresh`]
    fn refresh_at_tc(skb: *mut __sk_buff, key: &FlowKey<Self::Addr>, record: &mut FlowRecord<Self::Addr>);
    fn refresh_at_xdp(frame: *mut xdp_md, key: &FlowKey<Self::Addr>, record: &mut FlowRecord<Self::Addr>);
}

/// An address family, as the pipeline uses it.
pub trait Net: Tables + FibWords + Icmp + Global {}
impl<F: Tables + FibWords + Icmp + Global> Net for F {}
