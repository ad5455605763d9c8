//! Checksums computed in full, pair by pair and bit by bit: no code is shared with the datapath.

use std::net::IpAddr;

/// The checksum of SCTP, bit by bit (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |register: u32| (register >> 1) ^ if register & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |register, byte| (0..8).fold(register ^ u32::from(*byte), |r, _| step(r)))
}

/// Sum over pairs of octets, the last one padded with zero.
pub fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|p| u32::from(p[0]) << 8 | p.get(1).map_or(0, |b| u32::from(*b))).sum()
}

pub fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum over the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
pub fn pseudo(src: IpAddr, dst: IpAddr, len: usize, proto: u8) -> u32 {
    let octets = |addr: IpAddr| match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    sum(&octets(src)) + sum(&octets(dst)) + len as u32 + u32::from(proto)
}
