//! Direct calls of `BPF_PROG_TEST_RUN`, because aya's do not pass flags.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::tagged::Tag;

const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// The kernel gives the skb a complete sum of its data, and checks afterwards that the program updated it (6.16).
pub const CHECKSUM_COMPLETE: u32 = 1 << 2;

/// Octets of `struct __sk_buff` and offsets of the fields that a caller may set.
const SKB_LEN: usize = 192;
const SKB_IFINDEX: usize = 40;
const SKB_GSO_SIZE: usize = 176;

#[repr(C)]
#[derive(Default)]
struct Attr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

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
    /// For a [`super::tagged::Tagger`].
    pub tag: Option<Tag>,
}

/// Runs a TC program on a packet.
pub fn tc(program: BorrowedFd<'_>, packet: &[u8], beside: Skb, flags: u32) -> io::Result<Ran> {
    let mut skb = [0u8; SKB_LEN];
    skb[SKB_IFINDEX..][..4].copy_from_slice(&beside.ifindex.to_ne_bytes());
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
    // An error message is longer than the packet that it quotes.
    let mut out = vec![0u8; packet.len() + 256];
    let mut attr = Attr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: context.len() as u32,
        ctx_in: context.as_ptr() as u64,
        flags,
        ..Attr::default()
    };
    // SAFETY: the attribute has the kernel's layout; every pointer in it outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<Attr>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(attr.data_size_out as usize);
    Ok(Ran { verdict: attr.retval as i32, packet: out })
}
