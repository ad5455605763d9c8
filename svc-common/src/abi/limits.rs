//! Every capacity, with its unit. For tables that the daemon fills this is the first capacity; they grow. Other
//! tables keep this size.

/// Frontends per family (36 and 48 octets each, allocated as used).
pub const FRONTENDS: u32 = 65_536;
/// Backend ids in all extents of both families (8 octets each, allocated at once).
pub const SELECTION: u32 = 262_144;
/// Pages of Maglev tables of both families (4,096 octets each, allocated at once).
pub const MAGLEV: u32 = 1_024;
/// Backends per family (8 and 24 octets each, allocated at once).
pub const BACKENDS: u32 = 65_536;
/// Service ports that have counters (24 octets per CPU each).
pub const SERVICES: u32 = 32_768;
/// Flow records per family, two a flow (about 120 and 170 octets each, allocated at once).
pub const FLOWS: u32 = 262_144;
/// Records of flows per family that are not assured yet, two a flow (octets as in the flow table). Small, because an
/// insert into a full table takes the memory of an old record, which is cheap while it is in the CPU's cache.
pub const UNASSURED: u32 = 32_768;
/// Addresses of Services and of this node per family (about 70 and 80 octets each, allocated as used).
pub const ADDRESSES: u32 = 131_072;
/// Prefixes per family: source ranges, Service CIDRs, pod CIDRs (about 60 and 80 octets each, allocated as used).
pub const PREFIXES: u32 = 65_536;
/// Words of the presence filter (8 octets each, allocated at once; one value of the map): a little more than a million
/// places.
pub const PRESENCE: u32 = 38_912;
/// Interfaces.
pub const IFACES: u32 = 4_096;
/// Translated sockets whose frontend is stored, per family.
pub const SOCKETS: u32 = 65_536;
/// Clients and unconnected sockets with a stored backend, per family (about 80 and 90 octets each, allocated at
/// once).
pub const AFFINITY: u32 = 65_536;
/// Packets per family whose fragments are still arriving (about 70 and 100 octets each, allocated at once).
pub const FRAGMENTS: u32 = 8_192;
/// Connections of the node itself with a NodePort as source port, per family (about 70 and 100 octets each, allocated
/// at once).
pub const BYPASS: u32 = 16_384;
/// Load-balancer addresses that this node answers for, by interface (about 70 octets each, allocated as used).
pub const ANNOUNCED: u32 = 4_096;
/// Link-layer addresses of other nodes (about 60 octets each, allocated as used).
pub const NODE_MACS: u32 = 4_096;
/// Network namespaces of pods that have dialled while the daemon ran (about 60 octets each, allocated at once).
pub const POD_NETNS: u32 = 4_096;
/// Slots of the counter array. There are spare slots, so that a new counter does not change the map.
pub const COUNTERS: u32 = 64;
/// ICMP errors that one CPU may send per tick of a stamp (2^30 ns).
pub const REJECTS: u32 = 1_000;
/// Nanoseconds of its share of new flows that one CPU may spend at once (`--new-flow-limit`): some jiffies, in which the
/// coarse clock stands still.
pub const NEW_FLOW_BURST: u64 = 1 << 26;
/// Source ports tried before a flow is dropped. A range of at most this size is tried whole.
pub const SNAT_TRIES: u32 = 4_096;
/// Source ports tried before a flow takes the port of a recently closed connection.
pub const SNAT_TRIES_AT_REST: u32 = 64;
/// Ticks after its last packet from which a flow that is not assured may lose its source port, while no port is free. A
/// SYN is repeated after one and three seconds, a query mostly within two.
pub const UNASSURED_PORT_REST: u32 = 4;
/// Backends in one extent.
pub const EXTENT: u32 = 1 << 20;
/// Halvings until the largest extent (no backend occurs twice) is down to one place.
pub const EXTENT_HALVINGS: u32 = EXTENT.ilog2();
/// IPv6 extension headers skipped before a packet is left alone.
pub const IPV6_EXTENSIONS: usize = 4;
