//! Test runs of programs, with flags, which aya does not pass.

use std::io;
use std::os::fd::BorrowedFd;

use svc_ctl::dataplane::sys;

use super::tagged::Tag;

/// The kernel gives the skb a complete sum of its data, and checks afterwards that the program updated it (6.16).
pub const CHECKSUM_COMPLETE: u32 = 1 << 2;

/// Offset of a field of `struct __sk_buff` that a caller may set.
const SKB_GSO_SIZE: usize = 176;

/// Result of a run.
pub struct Ran {
    pub verdict: i32,
    pub packet: Vec<u8>,
}

/// Metadata of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Skb {
    /// The interface by which it came, or leaves.
    pub ifindex: u32,
    /// Octets of the segments into which it will be cut; 0: none.
    pub gso_size: u32,
    /// For a program after [`super::tagged::tagger`].
    pub tag: Option<Tag>,
}

/// Runs a TC program on a packet.
pub fn tc(program: BorrowedFd<'_>, packet: &[u8], beside: Skb, flags: u32) -> io::Result<Ran> {
    let mut skb = sys::skb(beside.ifindex);
    skb[SKB_GSO_SIZE..][..4].copy_from_slice(&beside.gso_size.to_ne_bytes());
    if let Some(tag) = beside.tag {
        tag.write_to(&mut skb);
    }
    run(program, packet, &skb, flags)
}

/// Runs an XDP program on a packet from an interface (which must have XDP attached, so that its queues exist).
pub fn xdp(program: BorrowedFd<'_>, packet: &[u8], ifindex: u32) -> io::Result<Ran> {
    // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    let fields = [0, packet.len() as u32, 0, ifindex, 0, 0];
    let context: Vec<u8> = fields.iter().flat_map(|field| field.to_ne_bytes()).collect();
    run(program, packet, &context, 0)
}

fn run(program: BorrowedFd<'_>, packet: &[u8], context: &[u8], flags: u32) -> io::Result<Ran> {
    let (verdict, packet) = sys::test_run(program, packet, context, flags)?;
    Ok(Ran { verdict, packet })
}
