//! The free room, the requested room, and the right size of the tables.

use super::Book;
use crate::plan::capacity::Capacity;

/// Part of a table above which it is made larger, in percent.
pub const NEARLY_FULL_PERCENT: u64 = 70;

/// The number of Maglev pages grows in steps of this size, 4 MiB.
const PAGES_STEP: u64 = 1_024;

/// Entries that a Service needs and does not have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    pub frontends: u32,
    pub backends: u32,
    pub selection: u32,
    pub maglev: u32,
    pub services: u32,
    pub addresses: u32,
    pub prefixes: u32,
}

impl Demand {
    pub fn add(&mut self, other: &Self) {
        self.frontends += other.frontends;
        self.backends += other.backends;
        self.selection += other.selection;
        self.maglev += other.maglev;
        self.services += other.services;
        self.addresses += other.addresses;
        self.prefixes += other.prefixes;
    }
}

/// Usage of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fill {
    pub table: &'static str,
    pub used: u64,
    pub capacity: u64,
}

impl Book {
    /// The fill of every table. The cost does not depend on the number of entries.
    pub fn fills(&self) -> Vec<Fill> {
        let capacity = &self.ids.capacity;
        let [services, backends, selection, maglev] = self.ids.used();
        let [frontends, addresses, prefixes] =
            [self.tables.frontends(), self.tables.addresses(), self.tables.prefixes()];
        let fill = |table, used: usize, capacity: u32| Fill {
            table,
            used: used as u64,
            capacity: u64::from(capacity),
        };
        vec![
            fill("frontends (IPv4)", frontends[0], capacity.frontends),
            fill("frontends (IPv6)", frontends[1], capacity.frontends),
            fill("service ports", services, capacity.services),
            fill("backends", backends, capacity.backends),
            fill("selection", selection, capacity.selection),
            fill("maglev pages", maglev, capacity.maglev),
            fill("addresses (IPv4)", addresses[0], capacity.addresses),
            fill("addresses (IPv6)", addresses[1], capacity.addresses),
            fill("prefixes (IPv4)", prefixes[0], capacity.prefixes),
            fill("prefixes (IPv6)", prefixes[1], capacity.prefixes),
        ]
    }

    /// Takes over larger tables, and lets waiting Services try again.
    pub fn grow(&mut self, capacity: Capacity) {
        self.ids.grow(capacity);
        self.has_freed = true;
    }

    /// The capacity that the tables should have, if it is more than they have. Used and requested entries take at most
    /// half of it, or 70 % of the Maglev pages. No table gets more than `most` entries.
    pub fn wanted_capacity(&self, most: u32) -> Option<Capacity> {
        let mut demand = Demand::default();
        self.waiting.values().for_each(|d| demand.add(d));
        let have = self.ids.capacity;
        let [services, backends, selection, maglev] = self.ids.used();
        let largest = |per_family: [usize; 2]| per_family[0].max(per_family[1]);
        let larger = |used: usize, demand: u32, have: u32, wanted: &dyn Fn(u64) -> u64| {
            let needed = used as u64 + u64::from(demand);
            let is_enough = demand == 0 && needed * 100 <= u64::from(have) * NEARLY_FULL_PERCENT;
            let wanted = || u32::try_from(wanted(needed)).unwrap_or(u32::MAX);
            if is_enough { have } else { wanted().min(most).max(have) }
        };
        let room = |used: usize, demand: u32, have: u32| {
            // If free runs are too short although there are enough places, the table is doubled.
            let least = u64::from(have) + u64::from(demand);
            larger(used, demand, have, &|needed| (2 * needed).max(least).next_power_of_two())
        };
        // The kernel allocates all pages at once, 4 KiB each: not twice as many as are needed.
        let pages = |needed: u64| (needed * 100).div_ceil(NEARLY_FULL_PERCENT).next_multiple_of(PAGES_STEP);
        let wanted = Capacity {
            frontends: room(largest(self.tables.frontends()), demand.frontends, have.frontends),
            backends: room(backends, demand.backends, have.backends),
            selection: room(selection, demand.selection, have.selection),
            maglev: larger(maglev, demand.maglev, have.maglev, &pages),
            services: room(services, demand.services, have.services),
            addresses: room(largest(self.tables.addresses()), demand.addresses, have.addresses),
            prefixes: room(largest(self.tables.prefixes()), demand.prefixes, have.prefixes),
        };
        (wanted != have).then_some(wanted)
    }
}
