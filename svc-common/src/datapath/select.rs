//! Selects a backend of an extent and a source port of the SNAT range.

use crate::abi::{FlowKey, MaglevPage};
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
fn client_hash<F: Family>(key: &FlowKey<F::Addr>) -> u32 {
    mix(F::fold(key.src), (key.sport.be() as u32) << 8 | key.proto.0 as u32)
}

/// Hash of a whole tuple.
#[inline(always)]
pub fn tuple_hash<F: Family>(key: &FlowKey<F::Addr>) -> u32 {
    mix(client_hash::<F>(key), F::fold(key.dst) ^ key.dport.be() as u32)
}

/// Maps a hash or random number to an index below `count`, without division (Lemire's reduction).
#[inline(always)]
pub const fn index(number: u32, count: u32) -> u32 {
    ((number as u64 * count as u64) >> 32) as u32
}

/// Position of a place in a Maglev table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MaglevPlace {
    /// Page, counted from the table's first page.
    pub page: u32,
    /// First octet of the place within its page: below [`MaglevPage::OCTETS`], and even if the place is wide.
    pub offset: u32,
    /// The place has two octets instead of one.
    pub is_wide: bool,
}

/// Octets of a place in a table of more than one page.
const WIDE: u32 = 2;
/// Places of a page in such a table.
const WIDE_PLACES: u32 = MaglevPage::OCTETS / WIDE;

/// The place for a hash in a Maglev table of `pages` pages.
#[inline(always)]
pub const fn maglev_place(hash: u32, pages: u32) -> MaglevPlace {
    if pages == 1 {
        return MaglevPlace { page: 0, offset: index(hash, MaglevPage::OCTETS), is_wide: false };
    }
    // A pinned table may hold garbage: the product wraps instead of overflowing.
    let place = index(hash, pages.wrapping_mul(WIDE_PLACES));
    MaglevPlace { page: place / WIDE_PLACES, offset: place % WIDE_PLACES * WIDE, is_wide: true }
}

/// The source port of the `attempt`-th try; there are as many tries as ports. The first is a fixed function of the
/// client, so that a lost record is made again with the same port. The next ones step through the first `ring` ports
/// ([`snat_ring`]) by a stride that depends on the client. The few ports beyond the ring come last.
#[inline(always)]
pub const fn snat_port(hash: u32, attempt: u32, first: u16, ring: u16) -> Port {
    let ring = ring as u32;
    let at = if attempt < ring {
        let stride = 1 + index(mix(hash, 1), ring.saturating_sub(1));
        // Widened, so that a large stride times many attempts cannot wrap.
        ((index(hash, ring) as u64 + attempt as u64 * stride as u64) % ring as u64) as u32
    } else {
        attempt
    };
    Port::new(first.wrapping_add(at as u16))
}

/// The largest prime that does not exceed `count`; below two, `count` itself.
pub fn snat_ring(count: u16) -> u16 {
    let is_prime = |n: &u16| {
        (2..*n).take_while(|d| u32::from(*d) * u32::from(*d) <= u32::from(*n)).all(|d| !n.is_multiple_of(d))
    };
    (2..=count).rev().find(is_prime).unwrap_or(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_of_the_range_is_tried_once() {
        for count in [1, 2, 3, 4, 7, 8, 37, 100, 4_096] {
            for hash in (0..u32::MAX).step_by(77_777_777) {
                let port = |attempt| snat_port(hash, attempt, 1024, snat_ring(count)).number();
                let ports: std::collections::BTreeSet<u16> = (0..u32::from(count)).map(port).collect();
                assert!(ports.into_iter().eq(1024..1024 + count), "{hash} of {count}");
            }
        }
    }

    #[test]
    fn the_ring_is_the_largest_prime() {
        let rows =
            [(0, 0), (1, 1), (2, 2), (4, 3), (8, 7), (10_000, 9_973), (28_976, 28_961), (65_535, 65_521)];
        for (count, ring) in rows {
            assert_eq!(snat_ring(count), ring, "{count}");
        }
    }

    /// Number of a place within its table.
    fn number(place: MaglevPlace) -> u32 {
        if place.is_wide { place.page * WIDE_PLACES + place.offset / WIDE } else { place.offset }
    }

    #[test]
    fn a_place_is_the_high_bits_of_the_hash() {
        for (pages, bits) in [(1, 12), (2, 12), (4, 13), (8, 14), (32, 16)] {
            for hash in (0..=u32::MAX).step_by(65_521) {
                assert_eq!(number(maglev_place(hash, pages)), hash >> (32 - bits), "{hash:#x} of {pages}");
            }
        }
    }

    #[test]
    fn every_place_lies_within_its_table() {
        for pages in [1, 2, 3, 7, 512, u32::MAX / WIDE_PLACES] {
            for hash in (0..u32::MAX).step_by(9_999_991).chain([0, u32::MAX]) {
                let place = maglev_place(hash, pages);
                assert!(place.page < pages, "{hash:#x} of {pages}: {place:?}");
                let octets = if place.is_wide { 2 } else { 1 };
                assert_eq!(place.is_wide, pages > 1);
                assert!(
                    place.offset.is_multiple_of(octets) && place.offset + octets <= MaglevPage::OCTETS,
                    "{place:?}"
                );
            }
        }
    }

    #[test]
    fn the_last_hash_has_the_last_place() {
        assert_eq!(maglev_place(u32::MAX, 1), MaglevPlace { page: 0, offset: 4_095, is_wide: false });
        assert_eq!(maglev_place(u32::MAX, 3), MaglevPlace { page: 2, offset: 4_094, is_wide: true });
        assert_eq!(maglev_place(0, 3), MaglevPlace { page: 0, offset: 0, is_wide: true });
    }

    #[test]
    fn an_invalid_number_of_pages_gives_a_place_within_a_page() {
        for pages in [0, 1 << 21, u32::MAX] {
            for hash in [0, 1, 0x8000_0000, u32::MAX] {
                let place = maglev_place(hash, pages);
                assert!(
                    place.offset.is_multiple_of(2) && place.offset < MaglevPage::OCTETS,
                    "{pages}: {place:?}"
                );
            }
        }
    }

    #[test]
    fn the_hash_spreads_adjacent_clients() {
        let mut hits = [0u32; 3];
        for port in 1024..31_024u32 {
            hits[index(mix(0x0a00_0001, port), 3) as usize] += 1;
        }
        assert!(hits.iter().all(|h| (9_500..10_500).contains(h)), "{hits:?}");
    }
}
