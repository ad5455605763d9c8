//! The trials of the field study: svc's behaviour when each case was found, before its fixes.

/// The beginning of a case's name, and the result of its trial. The first match counts.
pub const BEFORE: &[(&str, &str)] = &[
    ("N1: a node", "every masquerade leaves with source port 0; TCP and UDP lost"),
    (
        "R01: a device of the kind IPIP:",
        "timeout (tried with tun): packets that come in by a device without Ethernet header are lost",
    ),
    (
        "R01: a device of the kind GRE:",
        "timeout (tried with tun): packets that come in by a device without Ethernet header are lost",
    ),
    (
        "R01: a device of the kind WireGuard:",
        "timeout (tried with tun): packets that come in by a device without Ethernet header are lost",
    ),
    ("R02: a pod's masqueraded connection from", "timeout: the answer goes to a backend"),
    ("R03: a connection of the node from", "timeout: the answer goes to a backend"),
    ("R03: a connection of the node that", "the open connection ends"),
    ("R04:", "a backend answers, never the node's own server"),
    ("R06:", "silence: the answer leaves by the second card"),
    ("R07: replies", "pod of another node answered, local pod and host network silent"),
    ("R08:", "never found again"),
    ("R09:", "answered: the policy is bypassed through NodePorts, in a bridge through ClusterIPs too"),
    ("R10:", "answered: the rule sees no packet"),
    ("R12: a node", "refused, no complaint"),
    ("R12: pods", "timeout as client, refused as backend"),
    ("R14:", "NodePorts served"),
    ("R20: a FORWARD", "silence, no complaint"),
    ("R21: a pod's interface called eni", "counts as an uplink: silence to itself, policy Local drops"),
    ("R25:", "no ICMP error if the backend is remote"),
    ("R26:", "lost"),
    ("R29:", "Services served; the addresses count as the node's, no complaint"),
    ("R30:", "answered"),
    ("R33:", "the NodePort moves to the card's first address"),
    ("Y1:", "from 53 s on queries time out: each holds its source port for 120 s"),
    ("Y2:", "3,704 SYNs of 60 s meet a TIME_WAIT"),
    ("Y3:", "no ICMP error, datagrams lost, uploads stall"),
    ("R15: an unconnected UDP socket keeps a backend that lives (", "stays"),
    (
        "R15: an unconnected UDP socket keeps a backend that lives, by",
        "of 8 sockets of a pod 2 or 3 move at each change",
    ),
    ("R16:", "both sockets go on with the old backend for ever"),
    ("R23:", "as the control; through a ClusterIP answered from the pod's address"),
    ("Y4: the flows", "an open TCP connection hangs for ever, a UDP socket never heals"),
    ("Y4: with", "all go on"),
    ("R17:", "13 of 20 idle connections are reset"),
];

pub fn before(case: &str) -> &'static str {
    BEFORE.iter().find(|(begin, _)| case.starts_with(begin)).map_or("-", |(_, result)| result)
}
