//! Packets of devices without an Ethernet header. BPF_PROG_TEST_RUN takes every packet for an Ethernet frame: it reads the
//! packet's type from octets 12 and 13. Without the header an IP source address is there, so a row's sender has an
//! address that holds the type ([`super::place`]). The rest of the packet is as from such a device.

use std::io;
use std::os::fd::BorrowedFd;

use crate::bpf::{self, Prelude};

const HELPER_SKB_CHANGE_TYPE: u32 = 32;
/// linux/if_packet.h
const PACKET_HOST: u32 = 0;

/// Octets of an Ethernet header.
pub const ETH: usize = 14;

/// Marks the packet as one for this host before the program runs: the test run has compared its first octets with the MAC
/// of the interface.
pub fn to_this_host(program: BorrowedFd<'_>) -> io::Result<Prelude> {
    Prelude::before(program, &[bpf::set(2, PACKET_HOST), bpf::call(HELPER_SKB_CHANGE_TYPE)])
}
