//! Counters: the verdicts on packets, by reason, and the traffic of each service port.

use super::abi;

/// Index into the per-CPU counter array. Append only: the names are metric labels.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)+) => {
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Counter { $($(#[$doc])* $name,)+ }

        impl Counter {
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
            /// The name in metrics and in `svc-ctl status`.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

counters! {
    /// A flow began.
    FlowNew = "flow_new",
    /// A packet found the record of the other direction missing, and the record was made again.
    FlowTwinRestored = "flow_twin_restored",
    /// A TCP packet in mid-flow had no record and was assigned a backend by hash.
    FlowMidstream = "flow_midstream",
    /// A direct connection took the tuple of a translated one that had ended, or that had lost a record.
    FlowGaveWay = "flow_gave_way",
    /// The flow table refused an insert.
    FlowTableFull = "flow_table_full",
    /// No endpoint: ICMP port unreachable sent (SEM-091).
    RejectNoEndpoint = "reject_no_endpoint",
    /// Larger than the next hop's MTU: ICMP fragmentation needed / packet too big sent.
    RejectTooBig = "reject_too_big",
    /// An ICMP error was due, but this CPU's limit for the tick was reached.
    RejectLimited = "reject_limited",
    /// Traffic policy Local and no endpoint on this node (SEM-094).
    DropNoLocalEndpoint = "drop_no_local_endpoint",
    /// Every source port tried is taken by another live flow.
    DropSnatExhausted = "drop_snat_exhausted",
    /// No route to the backend or back to the client, or the neighbor failed.
    DropNoRoute = "drop_no_route",
    /// The interface has no address of the family to masquerade with.
    DropNoSnatAddress = "drop_no_snat_address",
    /// The time to live of an ICMP error, or of a fragment other than the first, expired here.
    DropTtl = "drop_ttl",
    /// A frontend names a backend that is not in the table: a bug, or a torn write.
    DropNoBackend = "drop_no_backend",
    /// The kernel refused to write the packet.
    DropRewrite = "drop_rewrite",
    /// `ip_forward` is off on the interface (FIB: forwarding disabled).
    DropForwardingOff = "drop_forwarding_off",
    /// A socket was connected to a backend by a cgroup hook.
    SocketConnect = "socket_connect",
    /// A socket's connect was refused: no endpoint.
    SocketRefused = "socket_refused",
    /// The ClusterIP's Service has no such port: ICMP port unreachable sent (SEM-095).
    RejectUnknownPort = "reject_unknown_port",
    /// The source is in none of `spec.loadBalancerSourceRanges` (SEM-031).
    DropSourceRange = "drop_source_range",
    /// An address of a Service CIDR or of a load-balancer pool that no Service has (SEM-095, SEM-315).
    DropUnallocated = "drop_unallocated",
    /// An ICMP error that quotes a translated packet was translated back (SEM-079).
    IcmpTranslated = "icmp_translated",
    /// A fragment to a Service's address arrived before its first fragment (SEM-109).
    DropFragment = "drop_fragment",
    /// The time to live expired here: ICMP time exceeded sent.
    RejectTtl = "reject_ttl",
    /// The stack was about to reset a masqueraded connection whose record is missing.
    DropStrayReset = "drop_stray_reset",
    /// A port of an external address that no Service has (`--unknown-external-ports drop`).
    DropUnknownPort = "drop_unknown_port",
    /// A direct connection got another source port: an open translated flow has its own (SEM-080).
    FlowDirect = "flow_direct",
    /// A packet would have begun a flow beyond this CPU's limit (`--new-flow-limit`).
    DropNewFlowLimit = "drop_new_flow_limit",
}

/// Value of the per-CPU service array, indexed by service id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ServiceCounters {
    /// Flows that began (including connected sockets).
    pub flows: u64,
    /// Packets translated, both directions.
    pub packets: u64,
    /// Octets of these packets, from the IP header on.
    pub bytes: u64,
}

abi! { ServiceCounters = 24 }
