//! Replacement of tables while traffic flows, and entry counts of the tables that programs fill.

use super::abi;

/// How programs use the flow table that is being replaced (`CARRIED4`, `CARRIED6`); the one word of the table `MIGRATION`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Migration(pub u32);

impl Migration {
    /// No flow table is being replaced.
    pub const NONE: Self = Self(0);
    /// Some hooks still run programs over the old table. A new flow is written to both tables; a record that is
    /// missing in the new table is copied from the old one.
    pub const WRITE_BOTH: Self = Self(1);
    /// Every hook runs over the new table. A record that is missing there is copied from the old one.
    pub const READ_OLD: Self = Self(2);
}

/// A table that programs fill and that evicts by itself; index into the per-CPU table `ENTRIES`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum EntryTable {
    Flows4,
    Flows6,
    Sockets4,
    Sockets6,
    Affinity4,
    Affinity6,
    Fragments4,
    Fragments6,
    Bypass4,
    Bypass6,
    Unassured4,
    Unassured6,
}

impl EntryTable {
    pub const COUNT: u32 = 12;
}

/// Value of the per-CPU table `ENTRIES`. If `made - removed` exceeds the table's number of entries, the rest was
/// evicted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EntryCount {
    /// Entries that programs inserted under an absent key.
    pub made: u64,
    /// Entries that programs removed.
    pub removed: u64,
}

abi! { EntryCount = 16, Migration = 4 }
