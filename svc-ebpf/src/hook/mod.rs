//! One file per kind of hook: context in, pipeline, action out.

pub mod sock;
pub mod tc;
pub mod xdp;

use core::ffi::c_void;

use svc_common::abi::{FlowKey, FlowRecord, Iface, Role};
use svc_common::addr::Proto;
use svc_common::family::Family;
use svc_common::wire::checksum::Wsum;
use svc_common::wire::cursor::Plain;
use svc_common::wire::icmp::Problem;
use svc_common::wire::parse::Packet;

use crate::frame::Frame;
use crate::kernel_structs::Neighbor;
use crate::net::Net;

/// Access to a packet at its hook, as the pipeline needs it.
pub trait PacketAccess {
    /// The hook is before the stack: packets that it cannot finish go up untouched.
    const BEFORE_STACK: bool;
    /// Offset of the IP header: 14, or 0 on devices without an Ethernet header.
    const L3: usize;

    fn frame(&self) -> Frame;
    /// [`crate::choose::choose_backend`] by the global function of this hook.
    fn choose_backend<F: Net>(&self) -> u32;
    /// [`crate::new_flow::begin`], likewise.
    fn begin<F: Net>(&self, role: Role) -> u32;
    /// [`crate::record::refresh`], likewise.
    fn refresh<F: Net>(&self, key: &FlowKey<F::Addr>, record: &mut FlowRecord<F::Addr>);
    fn ctx(&self) -> *mut c_void;
    /// At least `len` octets arrived, counted from the IP header: the header's length is not too large.
    fn is_complete(&self, len: u32) -> bool;
    /// The interface by which the packet came.
    fn ifindex(&self) -> u32;
    /// After segmentation the packet exceeds `mtu` octets from the IP header on; `headers` octets precede the
    /// payload.
    fn exceeds(&self, len: u32, headers: u32, mtu: u16) -> bool;
    /// Updates the transport checksum. `addr` and `port` are the changes of the sums over addresses (pseudo-header)
    /// and ports; `hops` is the decrement of the time to live. The packet may move.
    fn fix_checksum<F: Family>(&self, l4: usize, proto: Proto, addr: Wsum, port: Wsum, hops: u8) -> bool;
    /// Flips bits of an SCTP checksum; `others` is the rest of the change of a sum over the whole packet.
    fn fix_crc(&self, l4: usize, flip: u32, others: Wsum) -> bool;
    /// Updates the card's sum over the whole packet. `addr` is the change of the addresses that no transport checksum
    /// cancels; `hops` is the decrement of the time to live.
    fn fix_sum<F: Family>(&self, addr: Wsum, hops: u8);
    /// Copies octets from an offset, also from the non-linear part; false if the packet is too short.
    fn load_octets<T: Copy>(&self, offset: usize, to: &mut T, octets: usize) -> bool;
    /// Writes octets back; does not update sums.
    fn store_octets<T: Copy>(&self, offset: usize, from: &T, octets: usize) -> bool;

    /// Copies a whole value.
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize, to: &mut T) -> bool {
        self.load_octets(offset, to, size_of::<T>())
    }

    #[inline(always)]
    fn store<T: Plain>(&self, offset: usize, from: &T) -> bool {
        self.store_octets(offset, from, size_of::<T>())
    }

    /// Prepares a redirect: a packet without an Ethernet header gets an empty one, which the kernel requires. It
    /// removes the header again at a device without one.
    fn add_link_header<F: Family>(&self) -> bool;
    /// A program of svc redirected the packet, possibly at another interface.
    fn is_redirected(&self) -> bool;
    /// The frame is addressed to this machine, as far as this hook can see cheaply. Asked for every packet.
    fn is_ours(&self, role: Role) -> bool;
    /// The frame is addressed to this interface. Asked for new flows.
    fn is_addressed_to(&self, iface: &Iface) -> bool;
    /// Frames that are redirected to this interface get sent.
    fn reaches(&self, oif: u32) -> bool;
    /// Leaves the packet to the stack.
    fn pass(&self) -> i32;
    fn drop(&self) -> i32;
    /// Sends the packet out of an interface with the MACs that it has.
    fn redirect(&self, oif: u32) -> i32;
    /// Sends the packet out of an interface after the kernel has resolved the neighbor: the given one, or that of the
    /// packet's own route.
    fn redirect_neigh(&self, oif: u32, neighbor: Option<&Neighbor>) -> i32;
}

/// Hooks that can send an error to a packet's sender.
pub trait Reject: PacketAccess {
    /// Reports the problem to the packet's sender.
    fn reject<F: Net>(&self, packet: &Packet<F::Addr>, problem: Problem) -> i32;
}
