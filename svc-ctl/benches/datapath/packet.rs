//! Packets of the bench: UDP and TCP in 80 octets, every checksum computed in full, independently of the product.

use svc_common::abi::FlowKey;
use svc_common::addr::{AddrV4, AddrV6, Proto};
use svc_common::family::{Family, V4, V6};

/// Octets of a packet that the wrapper restores.
pub const LEN: usize = 80;
const ETH: usize = 14;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
/// TCP flags.
pub const SYN: u8 = 2;
const ACK: u8 = 16;

pub type Mac = [u8; 6];

/// A packet of this tuple between these MACs (destination first). A segment acknowledges.
pub fn build<F: Wire>(macs: [Mac; 2], key: &FlowKey<F::Addr>, ttl: u8) -> [u8; LEN] {
    with_flags::<F>(macs, key, ttl, ACK)
}

/// The same with these TCP flags, which a datagram does not have.
pub fn with_flags<F: Wire>(macs: [Mac; 2], key: &FlowKey<F::Addr>, ttl: u8, flags: u8) -> [u8; LEN] {
    let mut packet = [0x5a; LEN];
    let l4 = ETH + F::IP_LEN;
    packet[..12].copy_from_slice(macs.as_flattened());
    packet[12..ETH].copy_from_slice(&F::ETHERTYPE.to_be_bytes());
    F::write_ip(&mut packet[ETH..l4], key, (LEN - l4) as u16, ttl);
    packet[l4..l4 + 2].copy_from_slice(&key.sport.number().to_be_bytes());
    packet[l4 + 2..l4 + 4].copy_from_slice(&key.dport.number().to_be_bytes());
    let at = match key.proto {
        Proto::TCP => {
            packet[l4 + 4..l4 + TCP_HEADER].fill(0);
            packet[l4 + 12..l4 + 14].copy_from_slice(&[(TCP_HEADER as u8 / 4) << 4, flags]);
            l4 + 16
        }
        _ => {
            packet[l4 + 4..l4 + 6].copy_from_slice(&((LEN - l4) as u16).to_be_bytes());
            packet[l4 + 6..l4 + UDP_HEADER].fill(0);
            l4 + 6
        }
    };
    let mut summed = F::octets(key.src);
    summed.extend(F::octets(key.dst));
    summed.extend([0, key.proto.0]);
    summed.extend(((LEN - l4) as u16).to_be_bytes());
    summed.extend(&packet[l4..]);
    let check = match checksum(&summed) {
        0 if key.proto == Proto::UDP => 0xffff,
        sum => sum,
    };
    packet[at..at + 2].copy_from_slice(&check.to_be_bytes());
    packet
}

/// The checksum of RFC 1071, computed by pairs of octets.
fn checksum(octets: &[u8]) -> u16 {
    let pairs = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = pairs.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Writes a family's header.
pub trait Wire: Family {
    fn octets(addr: Self::Addr) -> Vec<u8>;
    fn write_ip(header: &mut [u8], key: &FlowKey<Self::Addr>, payload: u16, ttl: u8);
    /// The last four octets of an address, in the packet's byte order.
    fn tail(addr: Self::Addr) -> [u8; 4] {
        let octets = Self::octets(addr);
        [0, 1, 2, 3].map(|i| octets[octets.len() - 4 + i])
    }
}

impl Wire for V4 {
    fn octets(addr: AddrV4) -> Vec<u8> {
        addr.octets().to_vec()
    }

    fn write_ip(header: &mut [u8], key: &FlowKey<AddrV4>, payload: u16, ttl: u8) {
        let [high, low] = (payload + V4::IP_LEN as u16).to_be_bytes();
        header[..12].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, ttl, key.proto.0, 0, 0]);
        header[12..16].copy_from_slice(&key.src.octets());
        header[16..20].copy_from_slice(&key.dst.octets());
        let check = checksum(header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
    }
}

impl Wire for V6 {
    fn octets(addr: AddrV6) -> Vec<u8> {
        addr.octets().to_vec()
    }

    fn write_ip(header: &mut [u8], key: &FlowKey<AddrV6>, payload: u16, ttl: u8) {
        let [high, low] = payload.to_be_bytes();
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, key.proto.0, ttl]);
        header[8..24].copy_from_slice(&key.src.octets());
        header[24..40].copy_from_slice(&key.dst.octets());
    }
}
