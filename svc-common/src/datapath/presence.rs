//! The presence filter recognises packets that belong to no Service, without a look-up in a hash table.
//!
//! The filter is a flat array of words. Each word has two bits for each of 32 places. A frontend or a backend has one
//! place, by a hash of address, port and protocol. The zero address has places of its own, one for each port: it stands
//! for NodePorts, and for servers of the node that answer from any address. The daemon marks the places before it
//! writes the entry itself. A program that begins a flow to a backend that its client dials directly marks the backend
//! as a frontend. Marks are never removed, because flows outlive their Service. So the filter never misses a packet of
//! a Service. If two entries share a place, some packets cost a needless look-up.

use crate::abi::{Direction, FlowKey, FlowRecord, Hook, limits};
use crate::addr::{Port, Proto};
use crate::family::Family;

/// Marks at a place, a set of bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Marks(pub u64);

impl Marks {
    /// A frontend, or an address at which unknown ports are refused.
    pub const FRONTEND: Self = Self(1);
    /// A backend: its replies may be translated.
    pub const BACKEND: Self = Self(2);
    const BITS: u32 = 2;

    #[inline(always)]
    pub const fn has(self, bit: Self) -> bool {
        self.0 & bit.0 != 0
    }
}

/// A place in the filter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Index of the word.
    pub word: u32,
    shift: u32,
}

impl Place {
    const PER_WORD: u32 = u64::BITS / Marks::BITS;
    /// Places by hash, as a power of two.
    const HASHED: u32 = 20;
    /// Words of the whole filter: the places by hash, then one place for each port of TCP, UDP and SCTP.
    pub const WORDS: u32 = ((1 << Self::HASHED) + 3 * (1 << 16)) / Self::PER_WORD;

    #[inline(always)]
    const fn at(number: u32) -> Self {
        Self { word: number / Self::PER_WORD, shift: number % Self::PER_WORD * Marks::BITS }
    }

    /// The place of an address, port and protocol. The address is not zero.
    #[inline(always)]
    pub fn of<F: Family>(addr: F::Addr, port: Port, proto: Proto) -> Self {
        let key = F::fold(addr) as u64 | (port.be() as u64) << 32 | (proto.0 as u64) << 48;
        // Fibonacci hashing: the highest bits of the product depend on all bits of the key. The shift keeps neighboring addresses,
        // which differ in few bits, from sharing places.
        let key = key ^ key >> 29;
        Self::at((key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - Self::HASHED)) as u32)
    }

    /// The place of an address at which every port is a Service's.
    #[inline(always)]
    pub fn of_address<F: Family>(addr: F::Addr) -> Self {
        Self::of::<F>(addr, Port::default(), Proto::default())
    }

    /// The place of a port at the zero address.
    #[inline(always)]
    pub const fn of_port(port: Port, proto: Proto) -> Self {
        let kind = if proto.0 == Proto::TCP.0 {
            0
        } else if proto.0 == Proto::UDP.0 {
            1
        } else {
            2
        };
        Self::at((1 << Self::HASHED) + (kind << 16 | port.number() as u32))
    }

    /// The marks at this place of its word.
    #[inline(always)]
    pub const fn marks(self, word: u64) -> Marks {
        Marks(word >> self.shift & 3)
    }

    /// The word with these marks at this place.
    #[must_use]
    pub const fn marked(self, word: u64, marks: Marks) -> u64 {
        word | marks.0 << self.shift
    }
}

const _: () = assert!(Place::WORDS == limits::PRESENCE);

/// An incoming packet can have a record or a frontend, or end a flow. `begins`: it may begin a connection between its
/// endpoints (a SYN, any datagram), which ends a flow with the same tuple. `word` reads a word of the filter.
#[inline(always)]
pub fn incoming<F: Family>(key: &FlowKey<F::Addr>, begins: bool, word: impl Fn(u32) -> u64 + Copy) -> bool {
    let marks = |place: Place| place.marks(word(place.word));
    let to = marks(Place::of::<F>(key.dst, key.dport, key.proto));
    // In this order: an established flow reads one word or two.
    to.has(Marks::FRONTEND)
        || marks(Place::of::<F>(key.src, key.sport, key.proto)).has(Marks::BACKEND)
        || (begins && to.has(Marks::BACKEND))
        || is_at_service::<F>(key, word)
}

/// An incoming packet without a record can have a frontend, or end a flow: it is not only a reply.
#[inline(always)]
pub fn is_service<F: Family>(key: &FlowKey<F::Addr>, begins: bool, word: impl Fn(u32) -> u64 + Copy) -> bool {
    let to = Place::of::<F>(key.dst, key.dport, key.proto);
    let to = to.marks(word(to.word));
    to.has(Marks::FRONTEND) || (begins && to.has(Marks::BACKEND)) || is_at_service::<F>(key, word)
}

/// The packet goes to a NodePort, or to an address that refuses unknown ports.
#[inline(always)]
fn is_at_service<F: Family>(key: &FlowKey<F::Addr>, word: impl Fn(u32) -> u64 + Copy) -> bool {
    let marks = |place: Place| place.marks(word(place.word));
    marks(Place::of_port(key.dport, key.proto)) != Marks::default()
        || marks(Place::of_address::<F>(key.dst)) != Marks::default()
}

/// A leaving packet can have a record, or end one, or come from a NodePort.
#[inline(always)]
pub fn leaving<F: Family>(key: &FlowKey<F::Addr>, word: impl Fn(u32) -> u64) -> bool {
    let marks = |place: Place| place.marks(word(place.word));
    marks(Place::of::<F>(key.src, key.sport, key.proto)).has(Marks::BACKEND)
        || marks(Place::of::<F>(key.dst, key.dport, key.proto)).has(Marks::BACKEND)
        || marks(Place::of_port(key.sport, key.proto)) != Marks::default()
}

/// The place and marks by which the packets of a record are found.
pub fn of_record<F: Family>(key: &FlowKey<F::Addr>, record: &FlowRecord<F::Addr>) -> (Place, Marks) {
    if record.direction == Direction::REVERSE {
        let is_wild = key.src == F::Addr::default();
        let place = if is_wild {
            Place::of_port(key.sport, key.proto)
        } else {
            Place::of::<F>(key.src, key.sport, key.proto)
        };
        return (place, Marks::BACKEND);
    }
    let marks = if record.hook == Hook::INGRESS { Marks::FRONTEND } else { Marks::BACKEND };
    (Place::of::<F>(key.dst, key.dport, key.proto), marks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::AddrV4;
    use crate::family::V4;

    fn filter(marks: &[(Place, Marks)]) -> impl Fn(u32) -> u64 + use<> {
        let mut words = vec![0; Place::WORDS as usize];
        for (place, marks) in marks {
            let word = &mut words[place.word as usize];
            *word = place.marked(*word, *marks);
        }
        move |index| words[index as usize]
    }

    fn key(src: u8, sport: u16, dst: u8, dport: u16) -> FlowKey<AddrV4> {
        let addr = |last| AddrV4::new([10, 0, 0, last]);
        let (sport, dport) = (Port::new(sport), Port::new(dport));
        FlowKey { src: addr(src), dst: addr(dst), sport, dport, proto: Proto::UDP, _pad: [0; 3] }
    }

    #[test]
    fn a_packet_is_matched_by_the_marks_of_its_endpoints() {
        let of = |last, port| Place::of::<V4>(AddrV4::new([10, 0, 0, last]), Port::new(port), Proto::UDP);
        let word = filter(&[
            (of(2, 80), Marks::FRONTEND),
            (of(3, 8080), Marks::BACKEND),
            (Place::of_address::<V4>(AddrV4::new([10, 0, 0, 4])), Marks::FRONTEND),
            (Place::of_port(Port::new(30_000), Proto::UDP), Marks::FRONTEND),
        ]);
        // The packet, whether it begins a connection; can it have a record or frontend coming, a frontend, a record leaving.
        let rows = [
            (key(1, 1000, 2, 80), true, (true, true, false)),
            (key(1, 1000, 2, 81), true, (false, false, false)),
            (key(1, 1000, 4, 81), true, (true, true, false)),
            (key(1, 1000, 9, 30_000), true, (true, true, false)),
            (key(9, 30_000, 1, 1000), true, (false, false, true)),
            (key(3, 8080, 1, 1000), true, (true, false, true)),
            (key(3, 8080, 9, 30_000), true, (true, true, true)),
            (key(3, 8080, 2, 80), true, (true, true, true)),
            (key(1, 1000, 3, 8080), true, (true, true, true)),
            (key(1, 1000, 3, 8080), false, (false, false, true)),
        ];
        for (key, begins, expected) in rows {
            let coming = incoming::<V4>(&key, begins, &word);
            let found = (coming, is_service::<V4>(&key, begins, &word), leaving::<V4>(&key, &word));
            assert_eq!(found, expected, "{key:?}");
        }
    }

    #[test]
    fn neighboring_addresses_share_places_by_chance_alone() {
        let mut places = std::collections::BTreeSet::new();
        for n in 0..20_000_u32 {
            let [_, _, c, d] = n.to_be_bytes();
            let place = Place::of::<V4>(AddrV4::new([10, 96, c, d]), Port::new(80), Proto::TCP);
            assert!(place.word < Place::WORDS);
            places.insert((place.word, place.shift));
        }
        // 20,000 random places of 2^20 would be 19,810 different ones.
        assert!(places.len() > 19_600, "{}", places.len());
        assert!(Place::of_port(Port::new(u16::MAX), Proto::SCTP).word < Place::WORDS);
    }
}
