//! The tables that a sweep reads, and their names.

use std::time::Duration;

use svc_common::abi::{EntryTable, names};

/// A table that programs fill, or whose size is fixed: the plan does not bound it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Table {
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
    Interfaces,
}

/// How often a table is read in which entries expire.
const EXPIRY_PERIOD: Duration = Duration::from_secs(5);
/// How often a table is read in which nothing can be found but a count.
pub const LONGEST_PERIOD: Duration = Duration::from_secs(30);

impl Table {
    pub const ALL: [Self; 11] = [
        Self::Flows4,
        Self::Flows6,
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

    /// The name of its pin.
    pub const fn map(self) -> &'static str {
        match self {
            Self::Flows4 => names::FLOWS4,
            Self::Flows6 => names::FLOWS6,
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

    /// Where programs count the entries that they make and remove; nothing for a table that the daemon fills.
    pub const fn counted_as(self) -> Option<EntryTable> {
        match self {
            Self::Flows4 => Some(EntryTable::Flows4),
            Self::Flows6 => Some(EntryTable::Flows6),
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

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows4 => "flows (IPv4)",
            Self::Flows6 => "flows (IPv6)",
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

    /// Its name where its use is shown. Entries of fragments and of the node's own connections stay until they are evicted, so
    /// those tables are always full and their use says nothing.
    pub const fn shown_as(self) -> Option<&'static str> {
        match self {
            Self::Fragments4 | Self::Fragments6 | Self::Bypass4 | Self::Bypass6 => None,
            _ => Some(self.name()),
        }
    }

    /// The counter of entries that the kernel evicted (`docs/counters.md`).
    pub const fn evicted_label(self) -> Option<&'static str> {
        match self {
            Self::Flows4 => Some("flow_evicted_v4"),
            Self::Flows6 => Some("flow_evicted_v6"),
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

    /// How long a table whose entries change is left alone at least.
    pub const fn period(self) -> Duration {
        match self {
            Self::Flows4 | Self::Flows6 | Self::Affinity4 | Self::Affinity6 => EXPIRY_PERIOD,
            Self::Sockets4
            | Self::Sockets6
            | Self::Fragments4
            | Self::Fragments6
            | Self::Bypass4
            | Self::Bypass6
            | Self::Interfaces => LONGEST_PERIOD,
        }
    }

    /// A backend that is gone makes entries stale: UDP flows and sockets, or affinity.
    pub const fn staleness(self) -> Option<Staleness> {
        match self {
            Self::Flows4 | Self::Flows6 | Self::Sockets4 | Self::Sockets6 => Some(Staleness::Udp),
            Self::Affinity4 | Self::Affinity6 => Some(Staleness::Affinity),
            Self::Fragments4 | Self::Fragments6 | Self::Bypass4 | Self::Bypass6 | Self::Interfaces => None,
        }
    }
}

/// Which loss makes entries of a table stale.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Staleness {
    Udp,
    Affinity,
}
