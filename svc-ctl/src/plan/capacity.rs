//! Capacity of the tables.

use svc_common::abi::limits;

/// Entries of each table that the plan fills.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Per family.
    pub frontends: u32,
    /// Of both families: ids are unique across them.
    pub backends: u32,
    pub selection: u32,
    /// Pages.
    pub maglev: u32,
    pub services: u32,
    /// Per family.
    pub addresses: u32,
    /// Per family.
    pub prefixes: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            frontends: limits::FRONTENDS,
            backends: limits::BACKENDS,
            selection: limits::SELECTION,
            maglev: limits::MAGLEV,
            services: limits::SERVICES,
            addresses: limits::ADDRESSES,
            prefixes: limits::PREFIXES,
        }
    }
}

impl Capacity {
    /// The larger of both, table by table.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            frontends: self.frontends.max(other.frontends),
            backends: self.backends.max(other.backends),
            selection: self.selection.max(other.selection),
            maglev: self.maglev.max(other.maglev),
            services: self.services.max(other.services),
            addresses: self.addresses.max(other.addresses),
            prefixes: self.prefixes.max(other.prefixes),
        }
    }
}
