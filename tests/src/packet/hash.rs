//! The hash of a packet, the source ports that it gives a client, and the place of a Maglev table. All are written a second
//! time here, so that no expectation of a row comes from the code under test.
//!
//! They are fixed: a record that was lost, or that another version made, must be made again with the same port and backend.
//! Source ports also depend on the node's secret, which is [`SECRET`] here.

use std::net::IpAddr;

use super::flow::AddrPort;

/// The node's secret in these tests.
pub const SECRET: u64 = 0x0123_4567_89ab_cdef;

/// First SNAT port, and the number of ports.
pub const SNAT_PORTS: (u16, u16) = (20_000, 10_000);

/// The largest prime number that does not exceed the number of ports.
const RING: u32 = 9_973;

/// Constants of MurmurHash3's last step, and of the word that is mixed in.
const GOLDEN: u32 = 0x9e37_79b1;
const STEPS: [(u32, u32); 2] = [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35)];

/// Mixes a word into a hash.
fn mixed(hash: u32, word: u32) -> u32 {
    let start = hash ^ word.wrapping_mul(GOLDEN);
    let mixed = STEPS.iter().fold(start, |h, (shift, factor)| (h ^ (h >> shift)).wrapping_mul(*factor));
    mixed ^ (mixed >> 16)
}

/// The word of an address, or four words in one, of which the third is rotated so that common patterns do not cancel out.
/// Words are read from the packet as they lie there.
fn folded(addr: IpAddr) -> u32 {
    match addr {
        IpAddr::V4(addr) => u32::from_ne_bytes(addr.octets()),
        IpAddr::V6(addr) => {
            let whole = u128::from_ne_bytes(addr.octets());
            let word = |n: u32| (whole >> (32 * n)) as u32;
            word(0) ^ word(1) ^ word(2).rotate_left(7) ^ word(3)
        }
    }
}

/// The hash of a client: its address, port and protocol.
fn of_client((addr, port): AddrPort, proto: u8) -> u32 {
    mixed(folded(addr), u32::from(port.to_be()) * 256 + u32::from(proto))
}

/// The hash of a tuple.
pub fn of_tuple(from: AddrPort, to: AddrPort, proto: u8) -> u32 {
    mixed(of_client(from, proto), folded(to.0) ^ u32::from(to.1.to_be()))
}

/// The part of `count` that the hash is of its own range.
fn scaled(hash: u32, count: u32) -> u32 {
    (u64::from(hash) * u64::from(count) / (1 << 32)) as u32
}

/// One round of HalfSipHash.
fn sip_round(v: &mut [u32; 4]) {
    for (to, from, turn, other) in [(0, 1, 5, Some(0)), (2, 3, 8, None), (0, 3, 7, None), (2, 1, 13, Some(2))]
    {
        v[to] = v[to].wrapping_add(v[from]);
        v[from] = v[from].rotate_left(turn) ^ v[to];
        if let Some(other) = other {
            v[other] = v[other].rotate_left(16);
        }
    }
}

/// HalfSipHash-1-3 of octets, keyed with the secret.
fn half_sip(octets: &[u8]) -> u32 {
    let key = [SECRET as u32, (SECRET >> 32) as u32];
    let constant = |text: &[u8; 4]| u32::from_be_bytes(*text);
    let mut v = [key[0], key[1], key[0] ^ constant(b"lyge"), key[1] ^ constant(b"tedb")];
    let mut padded = octets.to_vec();
    padded.resize(octets.len() / 4 * 4 + 3, 0);
    padded.push(octets.len() as u8);
    for word in padded.chunks(4) {
        let word = word.iter().rev().fold(0, |word, octet| word << 8 | u32::from(*octet));
        v[3] ^= word;
        sip_round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..3).for_each(|_| sip_round(&mut v));
    v[1] ^ v[3]
}

/// The keyed hash of a client: address, port and protocol, as they lie in the packet.
fn of_port((addr, port): AddrPort, proto: u8) -> u32 {
    let mut octets = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    octets.extend(port.to_be_bytes());
    octets.push(proto);
    half_sip(&octets)
}

/// The source ports of a client in the order in which they are tried: around a ring of ports in steps of one length, then
/// the ports beyond the ring.
pub fn snat_ports(client: AddrPort, proto: u8) -> impl Iterator<Item = u16> {
    let hash = of_port(client, proto);
    let step = 1 + scaled(mixed(hash, 1), RING - 1);
    let (first, count) = SNAT_PORTS;
    let ring = (0..RING).scan(scaled(hash, RING), move |at, _| {
        let now = *at;
        *at = (*at + step) % RING;
        Some(now)
    });
    ring.chain(RING..count.into()).map(move |at| first + at as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ports(client: &str, proto: u8) -> Vec<u16> {
        let client: std::net::SocketAddr = client.parse().unwrap();
        snat_ports((client.ip(), client.port()), proto).collect()
    }

    #[test]
    fn a_client_tries_every_port_of_the_range_once_in_an_order_of_its_own() {
        let (first, count) = SNAT_PORTS;
        let one = ports("203.0.113.9:5000", 6);
        assert_eq!(one.iter().copied().collect::<BTreeSet<_>>(), (first..first + count).collect());
        assert_eq!(one.len(), usize::from(count));
        for other in ["203.0.113.9:5001", "203.0.113.10:5000", "[fd00::9]:5000", "[fd00:0:1::9]:5000"] {
            assert_ne!(one[..8], ports(other, 6)[..8], "{other}");
        }
        assert_ne!(one[..8], ports("203.0.113.9:5000", 17)[..8], "UDP");
    }
}
