//! Maglev tables of rows: one backend at the place of the row's first packet, another at all other places.

use std::sync::Arc;

use super::hash;
use super::wire::{Case, L4, Packet, endpoint, number};

/// A table of that many pages, with indices of backends within its extent.
#[derive(Clone, Copy, Debug)]
pub struct Maglev {
    pub pages: u32,
    /// At the place of the row's first packet.
    pub there: u16,
    pub elsewhere: u16,
}

impl Maglev {
    /// The index at each place. A packet's place is the high bits of its hash.
    pub fn places(self, hash: u32) -> Arc<[u16]> {
        let count: u32 = if self.pages == 1 { 4_096 } else { self.pages * 2_048 };
        assert!(count.is_power_of_two(), "a row's table has a power of two of places");
        let place = hash >> (32 - count.ilog2());
        (0..count).map(|at| if at == place { self.there } else { self.elsewhere }).collect()
    }
}

/// The hash of a packet.
pub fn hash(packet: &Packet, case: Case) -> u32 {
    let l4 = if packet.l4 == L4::Either { case.l4 } else { packet.l4 };
    hash::of_tuple(packet.source(case), endpoint(packet.dst, case), number(l4, case.family))
}
