//! Runs a loaded program on a packet of ours (`BPF_PROG_TEST_RUN`).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::bpf;

const BPF_PROG_TEST_RUN: libc::c_long = 10;

/// Octets of `struct __sk_buff`, and the offset of its interface index.
const SKB_LEN: usize = 192;
const SKB_IFINDEX: usize = 40;
/// Octets that a program may add: an ICMP error is longer than the packet that it quotes.
const ROOM: usize = 256;

#[repr(C)]
#[derive(Default)]
struct TestRun {
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

/// A context of a TC program, with the interface by which the packet comes or leaves.
pub fn skb(ifindex: u32) -> [u8; SKB_LEN] {
    let mut skb = [0; SKB_LEN];
    skb.iter_mut().skip(SKB_IFINDEX).zip(ifindex.to_ne_bytes()).for_each(|(to, from)| *to = from);
    skb
}

/// Runs a program on a packet with its context, in the kernel's layout. Returns the program's action and the packet
/// afterwards.
pub fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &[u8],
    flags: u32,
) -> io::Result<(i32, Vec<u8>)> {
    let mut out = vec![0_u8; packet.len() + ROOM];
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: context.len() as u32,
        ctx_in: context.as_ptr() as u64,
        flags,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    out.truncate(attr.data_size_out as usize);
    Ok((attr.retval as i32, out))
}
