//! Names of maps (15 characters at most) and programs, as the object, the pins and `svc-ctl status` spell them.

pub const FRONTENDS4: &str = "FRONTENDS4";
pub const FRONTENDS6: &str = "FRONTENDS6";
pub const SELECTION: &str = "SELECTION";
pub const BACKENDS4: &str = "BACKENDS4";
pub const BACKENDS6: &str = "BACKENDS6";
pub const FLOWS4: &str = "FLOWS4";
pub const FLOWS6: &str = "FLOWS6";
pub const UNASSURED4: &str = "UNASSURED4";
pub const UNASSURED6: &str = "UNASSURED6";
pub const ADDRESSES4: &str = "ADDRESSES4";
pub const ADDRESSES6: &str = "ADDRESSES6";
pub const PREFIXES4: &str = "PREFIXES4";
pub const PREFIXES6: &str = "PREFIXES6";
pub const IFACES: &str = "IFACES";
pub const SOCKETS4: &str = "SOCKETS4";
pub const SOCKETS6: &str = "SOCKETS6";
pub const AFFINITY4: &str = "AFFINITY4";
pub const AFFINITY6: &str = "AFFINITY6";
pub const FRAGMENTS4: &str = "FRAGMENTS4";
pub const FRAGMENTS6: &str = "FRAGMENTS6";
pub const BYPASS4: &str = "BYPASS4";
pub const BYPASS6: &str = "BYPASS6";
pub const PORT_SECRET: &str = "PORT_SECRET";
pub const COUNTERS: &str = "COUNTERS";
pub const SERVICES: &str = "SERVICES";
pub const MAGLEV: &str = "MAGLEV";
pub const CARRIED4: &str = "CARRIED4";
pub const CARRIED6: &str = "CARRIED6";
pub const MIGRATION: &str = "MIGRATION";
pub const ENTRIES: &str = "ENTRIES";
pub const LEASE: &str = "LEASE";
pub const ANNOUNCED: &str = "ANNOUNCED";
pub const NODE_MACS: &str = "NODE_MACS";
pub const POD_NETNS: &str = "POD_NETNS";
pub const PRESENCE: &str = "PRESENCE";

/// Tables that the daemon can fill again from its sources and from the node.
pub const TABLES: &[&str] = &[
    FRONTENDS4, FRONTENDS6, SELECTION, BACKENDS4, BACKENDS6, ADDRESSES4, ADDRESSES6, PREFIXES4, PREFIXES6,
    IFACES, MAGLEV, PRESENCE,
];

/// Maps that programs fill, and maps that must keep their contents while programs are replaced.
pub const RECORDS: &[&str] = &[
    FLOWS4,
    FLOWS6,
    SOCKETS4,
    SOCKETS6,
    AFFINITY4,
    AFFINITY6,
    FRAGMENTS4,
    FRAGMENTS6,
    BYPASS4,
    BYPASS6,
    COUNTERS,
    SERVICES,
    MIGRATION,
    ENTRIES,
    LEASE,
    ANNOUNCED,
    NODE_MACS,
    POD_NETNS,
    UNASSURED4,
    UNASSURED6,
    PORT_SECRET,
];
