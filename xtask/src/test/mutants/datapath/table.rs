//! The mutants. Each is a plausible mistake in the datapath.

/// One mistake.
pub struct Mutant {
    pub name: &'static str,
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the presence filter forgets frontends",
        file: "svc-common/src/datapath/presence.rs",
        from: "to.has(Marks::FRONTEND)\n        ||",
        to: "",
    },
    Mutant {
        name: "the presence filter forgets NodePorts",
        file: "svc-common/src/datapath/presence.rs",
        from: "marks(Place::of_port(key.dport, key.proto)) != Marks::default()\n        ||",
        to: "",
    },
    Mutant {
        name: "the presence filter forgets addresses that refuse unknown ports",
        file: "svc-common/src/datapath/presence.rs",
        from: "|| marks(Place::of_address::<F>(key.dst)) != Marks::default()",
        to: "",
    },
    Mutant {
        name: "the presence filter forgets replies",
        file: "svc-common/src/datapath/presence.rs",
        from: "|| marks(Place::of::<F>(key.src, key.sport, key.proto)).has(Marks::BACKEND)",
        to: "",
    },
    Mutant {
        name: "the presence filter forgets leaving replies",
        file: "svc-common/src/datapath/presence.rs",
        from: "marks(Place::of::<F>(key.src, key.sport, key.proto)).has(Marks::BACKEND)\n        || marks(Place::of::<F>(key.dst",
        to: "marks(Place::of::<F>(key.dst",
    },
    Mutant {
        name: "IPv6 hop limit is not taken off",
        file: "svc-common/src/wire/rewrite.rs",
        from: "header.hop_limit = header.hop_limit.wrapping_sub(hops);",
        to: "header.hop_limit = header.hop_limit.wrapping_sub(0 * hops);",
    },
    Mutant {
        name: "XDP makes a checksum for a datagram that has none",
        file: "svc-ebpf/src/hook/xdp.rs",
        from: "if proto == Proto::UDP && stored == 0 {",
        to: "if proto == Proto::TCP && stored == 0 {",
    },
    Mutant {
        name: "the checksum of SCTP is kept for a packet of another length",
        file: "svc-ebpf/src/sctp.rs",
        from: "packet.len.wrapping_sub((packet.l4 - M::L3) as u32)",
        to: "packet.len",
    },
    Mutant {
        name: "another source port is forgotten in the checksum",
        file: "svc-ebpf/src/source_port.rs",
        from: "claim.port_delta.plus(Wsum(port.be() as u32)).minus(Wsum(key.sport.be() as u32))",
        to: "claim.port_delta",
    },
    Mutant {
        name: "a SYN stays with a closed connection",
        file: "svc-ebpf/src/record.rs",
        from: "(record.state.is_closing(proto) || is_expired",
        to: "(is_expired",
    },
    Mutant {
        name: "datagram flows without answer live as long as answered ones",
        file: "svc-common/src/datapath/state.rs",
        from: "{ 120 } else { 30 }",
        to: "{ 120 } else { 120 }",
    },
    Mutant {
        name: "pods are refused the short-circuit of policy Local",
        file: "svc-common/src/datapath/choose.rs",
        from: "flags.has(FrontendFlags::LOCAL_ONLY) && !is_inside",
        to: "flags.has(FrontendFlags::LOCAL_ONLY)",
    },
    Mutant {
        name: "the index of a backend is off by one",
        file: "svc-common/src/datapath/select.rs",
        from: "((number as u64 * count as u64) >> 32) as u32",
        to: "((number as u64 * count as u64) >> 32) as u32 + 1",
    },
    Mutant {
        name: "a pod that reaches itself sees itself",
        file: "svc-common/src/datapath/placement.rs",
        from: "Placement { snat: true, exit: Exit::HAIRPIN, reverse_hook: Hook::INGRESS }\n        }",
        to: "Placement { snat: false, exit: Exit::HAIRPIN, reverse_hook: Hook::INGRESS }\n        }",
    },
    Mutant {
        name: "a client stays with a backend that may not be chosen",
        file: "svc-ebpf/src/affinity.rs",
        from: "if holds(extent, backend) { backend.0 } else { NO_BACKEND }",
        to: "if holds(extent, backend) { backend.0 } else { backend.0 }",
    },
    Mutant {
        name: "a live flow's source port is given away",
        file: "svc-ebpf/src/source_port.rs",
        from: "is_own || has_rested",
        to: "true || is_own || has_rested",
    },
    Mutant {
        name: "a datagram with its answer holds its source port like a stream",
        file: "svc-common/src/datapath/state.rs",
        from: "state.has(FlowState::REPLIED) && state.has(FlowState::STREAM)",
        to: "state.has(FlowState::REPLIED)",
    },
    Mutant {
        name: "answers come from the backend's port",
        file: "svc-common/src/datapath/flow.rs",
        from: "twin.sport = key.dport;",
        to: "twin.sport = record.dport;",
    },
    Mutant {
        name: "NodePorts are served at every address of the node",
        file: "svc-common/src/abi/node.rs",
        from: "pub const LOCAL: Self = Self(1);\n    /// Accepts NodePorts (SEM-020 to SEM-023).\n    pub const NODE_PORT: Self = Self(2);",
        to: "pub const LOCAL: Self = Self(2);\n    /// Accepts NodePorts (SEM-020 to SEM-023).\n    pub const NODE_PORT: Self = Self(1);",
    },
    Mutant {
        name: "an error comes from another address than the one dialled",
        file: "svc-ebpf/src/icmp.rs",
        from: "if is_own::<F>(&packet.key.dst) {",
        to: "if !is_own::<F>(&packet.key.dst) {",
    },
    Mutant {
        name: "a SYN-ACK to a NodePort is taken for a client's",
        file: "svc-ebpf/src/bypass.rs",
        from: "packet.tcp_flags & tcp::SYN != 0",
        to: "packet.tcp_flags == u8::MAX",
    },
    Mutant {
        name: "an expired time to live is reported as another error",
        file: "svc-common/src/wire/icmp.rs",
        from: "Problem::TIME_EXCEEDED => (11, 0),",
        to: "Problem::TIME_EXCEEDED => (11, 1),",
    },
    Mutant {
        name: "a later fragment of IPv6 is taken for a first one",
        file: "svc-common/src/wire/parse.rs",
        from: "is_first: place & 0xfff8 == 0,",
        to: "is_first: true,",
    },
    Mutant {
        name: "a later fragment keeps its time to live",
        file: "svc-ebpf/src/no_ports.rs",
        from: "F::readdress(header, &record.src, &record.dst, hops);",
        to: "F::readdress(header, &record.src, &record.dst, 0);",
    },
    Mutant {
        name: "an error quotes the packet with the ports of the backend's side",
        file: "svc-ebpf/src/icmp_inner.rs",
        from: "*ports = Ports { src: record.dport.be(), dst: record.sport.be() };",
        to: "*ports = Ports { src: record.sport.be(), dst: record.dport.be() };",
    },
    Mutant {
        name: "a translated flow keeps the tuple of a direct connection",
        file: "svc-ebpf/src/tuple_conflict.rs",
        from: "    F::remove_flow(reverse_key);\n",
        to: "",
    },
    Mutant {
        name: "a direct connection takes the tuple of an open translated one",
        file: "svc-ebpf/src/tuple_conflict.rs",
        from: "if has_forward && !is_over",
        to: "if has_forward && is_over",
    },
    Mutant {
        name: "a backend that reaches itself is no hairpin",
        file: "svc-ebpf/src/new_flow.rs",
        from: "role == Role::POD && key.src == backend.addr",
        to: "role == Role::NONE && key.src == backend.addr",
    },
    Mutant {
        name: "source ranges refuse no client",
        file: "svc-ebpf/src/choose.rs",
        from: "if flags.has(FrontendFlags::SOURCE_RANGES)",
        to: "if false && flags.has(FrontendFlags::SOURCE_RANGES)",
    },
    Mutant {
        name: "frames leave from the next hop's MAC",
        file: "svc-ebpf/src/fib.rs",
        from: "record.smac = params.smac;",
        to: "record.smac = params.dmac;",
    },
    Mutant {
        name: "packets that are too big for the next hop are sent",
        file: "svc-ebpf/src/hook/tc.rs",
        from: "if (len <= mtu as u32 && len >= headers) || mtu == 0 {",
        to: "if true {",
    },
    Mutant {
        name: "a packet is forwarded although its time to live ends",
        file: "svc-ebpf/src/pipeline.rs",
        from: "if packet.ttl <= 1 {",
        to: "if packet.ttl == 0 {",
    },
    Mutant {
        name: "a hairpin packet keeps its MACs",
        file: "svc-ebpf/src/send.rs",
        from: "p.write([d, e, f, a, b, c]);",
        to: "p.write([a, b, c, d, e, f]);",
    },
    Mutant {
        name: "a checksum loses the carry of a sum",
        file: "svc-common/src/wire/checksum.rs",
        from: "(sum as u32).wrapping_add((sum >> 32) as u32)",
        to: "sum as u32",
    },
];

/// Files of the datapath without a mutant, and the reason.
#[cfg(test)]
pub const WITHOUT_MUTANT: &[(&str, &str)] = &[
    (
        "svc-common/src/datapath/affinity.rs",
        "its unit tests judge when an entry expires; the worlds of the model rarely outlive one",
    ),
    ("svc-common/src/datapath/mod.rs", NO_DECISION),
    ("svc-common/src/wire/crc32c.rs", "a unit test compares it with the polynomial, bit by bit"),
    ("svc-common/src/wire/cursor.rs", NO_DECISION),
    ("svc-common/src/wire/ip.rs", NO_DECISION),
    ("svc-common/src/wire/mod.rs", NO_DECISION),
    ("svc-ebpf/src/announced.rs", "the model knows no ARP; the tier net does"),
    ("svc-ebpf/src/bench.rs", "no part of the product"),
    ("svc-ebpf/src/resume.rs", "the model knows no replaced tables; the tiers packets and upgrade do"),
    ("svc-ebpf/src/entries.rs", "the model counts no entries; the tier packets does"),
    ("svc-ebpf/src/extent.rs", NO_DECISION),
    ("svc-ebpf/src/frame.rs", NO_DECISION),
    ("svc-ebpf/src/global.rs", NO_DECISION),
    ("svc-ebpf/src/hook/mod.rs", NO_DECISION),
    ("svc-ebpf/src/hook/sock.rs", "the model knows no sockets; the tiers net and packets do"),
    ("svc-ebpf/src/instructions.rs", NO_DECISION),
    ("svc-ebpf/src/kernel_structs.rs", NO_DECISION),
    ("svc-ebpf/src/lease.rs", "the model knows no sockets; the tier net does"),
    ("svc-ebpf/src/main.rs", NO_DECISION),
    ("svc-ebpf/src/maps.rs", NO_DECISION),
    ("svc-ebpf/src/net.rs", NO_DECISION),
    ("svc-ebpf/src/outcome.rs", NO_DECISION),
    ("svc-ebpf/src/tables.rs", NO_DECISION),
    ("svc-common/src/datapath/budget.rs", "unit tests judge it; the model has no limit of new flows"),
    (
        "svc-common/src/datapath/port_hash.rs",
        "the model takes any free port; the tier packets computes the hash",
    ),
    ("svc-ebpf/src/twin.rs", NO_DECISION),
];

#[cfg(test)]
const NO_DECISION: &str = "it decides nothing: declarations, or access to packets and maps";
