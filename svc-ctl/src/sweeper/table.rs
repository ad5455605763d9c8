//! The tables that a sweep reads, and their names.

use std::time::Duration;

use svc_common::abi::{EntryTable, names};

/// A table that programs fill, or whose size is fixed: the plan does not bound it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Table {
    Flows4,
    Flows6,
    Unassured4,
    Unassured6,
    Sockets4,
    Sockets6,
    Affinity4,
    Affinity6,
    Fragments4,
    Fragments6,
    Bypass4,
    Bypass6,
    Interfaces,
}

/// Interval between readings of a table with entries that expire.
const EXPIRY_PERIOD: Duration = Duration::from_secs(5);
/// Interval between readings of a table that only count its entries.
pub const LONGEST_PERIOD: Duration = Duration::from_secs(30);

impl Table {
    pub const ALL: [Self; 13] = [
        Self::Flows4,
        Self::Flows6,
        Self::Unassured4,
        Self::Unassured6,
        Self::Sockets4,
        Self::Sockets6,
        Self::Affinity4,
        Self::Affinity6,
        Self::Fragments4,
        Self::Fragments6,
        Self::Bypass4,
        Self::Bypass6,
        Self::Interfaces,
    ];

    /// The tables of flows, by family.
    pub const FLOWS: [[Self; 2]; 2] = [[Self::Flows4, Self::Unassured4], [Self::Flows6, Self::Unassured6]];

    /// It is a table of flows.
    pub fn has_flows(self) -> bool {
        Self::FLOWS.as_flattened().contains(&self)
    }

    /// The name of its pin.
    pub const fn map(self) -> &'static str {
        match self {
            Self::Flows4 => names::FLOWS4,
            Self::Flows6 => names::FLOWS6,
            Self::Unassured4 => names::UNASSURED4,
            Self::Unassured6 => names::UNASSURED6,
            Self::Sockets4 => names::SOCKETS4,
            Self::Sockets6 => names::SOCKETS6,
            Self::Affinity4 => names::AFFINITY4,
            Self::Affinity6 => names::AFFINITY6,
            Self::Fragments4 => names::FRAGMENTS4,
            Self::Fragments6 => names::FRAGMENTS6,
            Self::Bypass4 => names::BYPASS4,
            Self::Bypass6 => names::BYPASS6,
            Self::Interfaces => names::IFACES,
        }
    }

    /// Index into `ENTRIES` for this table; `None` for a table that the daemon fills.
    pub const fn counted_as(self) -> Option<EntryTable> {
        match self {
            Self::Flows4 => Some(EntryTable::Flows4),
            Self::Flows6 => Some(EntryTable::Flows6),
            Self::Unassured4 => Some(EntryTable::Unassured4),
            Self::Unassured6 => Some(EntryTable::Unassured6),
            Self::Sockets4 => Some(EntryTable::Sockets4),
            Self::Sockets6 => Some(EntryTable::Sockets6),
            Self::Affinity4 => Some(EntryTable::Affinity4),
            Self::Affinity6 => Some(EntryTable::Affinity6),
            Self::Fragments4 => Some(EntryTable::Fragments4),
            Self::Fragments6 => Some(EntryTable::Fragments6),
            Self::Bypass4 => Some(EntryTable::Bypass4),
            Self::Bypass6 => Some(EntryTable::Bypass6),
            Self::Interfaces => None,
        }
    }

    /// The name shown to people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows4 => "flows (IPv4)",
            Self::Flows6 => "flows (IPv6)",
            Self::Unassured4 => "unassured flows (IPv4)",
            Self::Unassured6 => "unassured flows (IPv6)",
            Self::Sockets4 => "sockets (IPv4)",
            Self::Sockets6 => "sockets (IPv6)",
            Self::Affinity4 => "affinity (IPv4)",
            Self::Affinity6 => "affinity (IPv6)",
            Self::Fragments4 => "fragments (IPv4)",
            Self::Fragments6 => "fragments (IPv6)",
            Self::Bypass4 => "bypass (IPv4)",
            Self::Bypass6 => "bypass (IPv6)",
            Self::Interfaces => "interfaces",
        }
    }

    /// The name in reports of use; `None` if the use has no meaning. Entries for fragments and for the node's own
    /// connections are only removed by eviction, so those tables are always full. Queries and their answers may fill the
    /// table of unassured flows, and lose nothing when they are evicted.
    pub const fn shown_as(self) -> Option<&'static str> {
        match self {
            Self::Unassured4
            | Self::Unassured6
            | Self::Fragments4
            | Self::Fragments6
            | Self::Bypass4
            | Self::Bypass6 => None,
            _ => Some(self.name()),
        }
    }

    /// The counter of evicted entries (`docs/counters.md`).
    pub const fn evicted_label(self) -> Option<&'static str> {
        match self {
            Self::Flows4 => Some("flow_evicted_v4"),
            Self::Flows6 => Some("flow_evicted_v6"),
            Self::Unassured4 => Some("unassured_flow_evicted_v4"),
            Self::Unassured6 => Some("unassured_flow_evicted_v6"),
            Self::Sockets4 => Some("socket_evicted_v4"),
            Self::Sockets6 => Some("socket_evicted_v6"),
            Self::Affinity4 => Some("affinity_evicted_v4"),
            Self::Affinity6 => Some("affinity_evicted_v6"),
            Self::Fragments4 => Some("fragment_evicted_v4"),
            Self::Fragments6 => Some("fragment_evicted_v6"),
            Self::Bypass4 => Some("bypass_evicted_v4"),
            Self::Bypass6 => Some("bypass_evicted_v6"),
            Self::Interfaces => None,
        }
    }

    /// Minimum time between two reads of a table whose entries change.
    pub const fn period(self) -> Duration {
        match self {
            Self::Flows4
            | Self::Flows6
            | Self::Unassured4
            | Self::Unassured6
            | Self::Affinity4
            | Self::Affinity6 => EXPIRY_PERIOD,
            Self::Sockets4
            | Self::Sockets6
            | Self::Fragments4
            | Self::Fragments6
            | Self::Bypass4
            | Self::Bypass6
            | Self::Interfaces => LONGEST_PERIOD,
        }
    }

    /// Entries become stale when a backend is removed: UDP flows and sockets, or affinity entries.
    pub const fn staleness(self) -> Option<Staleness> {
        match self {
            Self::Flows4
            | Self::Flows6
            | Self::Unassured4
            | Self::Unassured6
            | Self::Sockets4
            | Self::Sockets6 => Some(Staleness::Udp),
            Self::Affinity4 | Self::Affinity6 => Some(Staleness::Affinity),
            Self::Fragments4 | Self::Fragments6 | Self::Bypass4 | Self::Bypass6 | Self::Interfaces => None,
        }
    }
}

/// Kind of loss that makes entries of a table stale.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Staleness {
    Udp,
    Affinity,
}
