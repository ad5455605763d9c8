//! One file per kind of hook: context in, pipeline, action out.

pub mod sock;
pub mod tc;
pub mod xdp;

use core::ffi::c_void;

use svc_common::abi::{Iface, Role};
use svc_common::addr::Proto;
use svc_common::family::Family;
use svc_common::wire::checksum::Wsum;
use svc_common::wire::cursor::Plain;

use crate::frame::Frame;

/// What the pipeline needs of a packet's hook.
pub trait Medium {
    /// Runs before the stack: what it cannot finish by itself it hands up untouched.
    const BEFORE_STACK: bool;
    /// Offset of the IP header: 14, or 0 on devices without an Ethernet header.
    const L3: usize;

    fn frame(&self) -> Frame;
    fn ctx(&self) -> *mut c_void;
    /// That many octets arrived, from the IP header on: the header's length does not lie.
    fn has_arrived(&self, len: u32) -> bool;
    /// The interface by which the packet came.
    fn ifindex(&self) -> u32;
    /// Too large for `mtu` octets from the IP header on, once segmented; `headers` octets stand before the payload.
    fn exceeds(&self, len: u32, headers: u32, mtu: u16) -> bool;
    /// Keeps the transport checksum: `addr` and `port` are what the rewrite added to the sums over addresses (the
    /// pseudo-header) and over ports, `hops` what it took off the time to live. The packet may move.
    fn fix_checksum<F: Family>(&self, l4: usize, proto: Proto, addr: Wsum, port: Wsum, hops: u8) -> bool;
    /// Flips bits of an SCTP checksum; `others` is what else the rewrite adds to a sum over the whole packet.
    fn fix_crc(&self, l4: usize, flip: u32, others: Wsum) -> bool;
    /// Keeps the sum that the card made over the whole packet: `addr` is what the rewrite added to the addresses without
    /// a transport checksum that takes it off again, `hops` what it took off the time to live.
    fn fix_sum<F: Family>(&self, addr: Wsum, hops: u8);
    /// Copies what lies at an offset, in whichever part of the packet; false if it is too short.
    fn load_octets<T: Copy>(&self, offset: usize, to: &mut T, octets: usize) -> bool;
    /// Writes what was loaded and changed; sums are not kept.
    fn store_octets<T: Copy>(&self, offset: usize, from: &T, octets: usize) -> bool;

    /// All of a value.
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize, to: &mut T) -> bool {
        self.load_octets(offset, to, size_of::<T>())
    }

    #[inline(always)]
    fn store<T: Plain>(&self, offset: usize, from: &T) -> bool {
        self.store_octets(offset, from, size_of::<T>())
    }

    /// Before a packet is redirected: one that came without an Ethernet header gets an empty one, which the kernel wants to
    /// find and takes off again where the packet leaves without.
    fn add_link_header<F: Family>(&self) -> bool;
    /// A program of svc has redirected the packet here, also if by another interface.
    fn is_redirected(&self) -> bool;
    /// The frame is addressed to this machine, as far as this hook can tell cheaply; asked for every packet.
    fn is_ours(&self, role: Role) -> bool;
    /// The frame is addressed to this interface; asked for new flows.
    fn is_addressed_to(&self, iface: &Iface) -> bool;
    /// Frames that are redirected to this interface arrive.
    fn reaches(&self, oif: u32) -> bool;
    /// On to whoever is next.
    fn pass(&self) -> i32;
    fn drop(&self) -> i32;
    /// Out of an interface, with the MACs that the packet has.
    fn redirect(&self, oif: u32) -> i32;
    /// Out of an interface, after the neighbour has been resolved.
    fn redirect_neigh(&self, oif: u32) -> i32;
}
