//! Which backend of an extent, which source port of the range.

use crate::abi::FlowKey;
use crate::addr::Port;
use crate::family::Family;

/// A well-mixed 32-bit hash of two words (the finisher of MurmurHash3, public domain).
#[inline(always)]
pub const fn mix(a: u32, b: u32) -> u32 {
    let mut h = a ^ b.wrapping_mul(0x9e37_79b1);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// Hash of a client: address and port.
#[inline(always)]
pub fn client_hash<F: Family>(key: &FlowKey<F::Addr>) -> u32 {
    mix(F::fold(key.src), (key.sport.be() as u32) << 8 | key.proto.0 as u32)
}

/// Hash of a whole tuple.
#[inline(always)]
pub fn tuple_hash<F: Family>(key: &FlowKey<F::Addr>) -> u32 {
    mix(client_hash::<F>(key), F::fold(key.dst) ^ key.dport.be() as u32)
}

/// A hash or random number to an index below `count`, without division (Lemire's reduction).
#[inline(always)]
pub const fn index(number: u32, count: u32) -> u32 {
    ((number as u64 * count as u64) >> 32) as u32
}

/// The source port to try at the `attempt`-th time. The first is a fixed function of the client, so that a lost
/// record is made again the same; the following ones step through the range by a stride that is the client's own.
#[inline(always)]
pub const fn snat_port(hash: u32, attempt: u32, first: u16, count: u16) -> Port {
    let count = count as u32;
    let start = index(hash, count);
    let stride = 1 + index(mix(hash, 1), count.saturating_sub(1));
    // Widened, so that a large stride many times over cannot wrap.
    let at = start as u64 + attempt as u64 * stride as u64;
    let at = if count == 0 { 0 } else { (at % count as u64) as u32 };
    Port::new(first.wrapping_add(at as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_within_their_range_and_differ() {
        for hash in (0..u32::MAX).step_by(7_777_777) {
            let ports: std::collections::BTreeSet<u16> =
                (0..16).map(|a| snat_port(hash, a, 1024, 28_976).number()).collect();
            assert!(ports.iter().all(|p| (1024..30_000).contains(p)));
            assert!(ports.len() > 8, "{hash}: {ports:?}");
        }
        assert_eq!(snat_port(5, 3, 61_000, 1).number(), 61_000);
    }

    #[test]
    fn the_hash_spreads_neighbouring_clients() {
        let mut hits = [0u32; 3];
        for port in 1024..31_024u32 {
            hits[index(mix(0x0a00_0001, port), 3) as usize] += 1;
        }
        assert!(hits.iter().all(|h| (9_500..10_500).contains(h)), "{hits:?}");
    }
}
