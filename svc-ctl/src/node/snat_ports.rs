//! The source ports of masqueraded packets: finds a block that is free on this host, or shares one.

use std::ops::RangeInclusive;

use super::sysctl;
use crate::model::service::NODE_PORTS;

/// Ports below it are for servers.
const LOWEST: u16 = 1024;

/// Smallest free block to use: the number of masqueraded connections to one backend at a time.
const LEAST: u16 = 4096;

/// The block used if no free block is large enough. It is shared with the host's own connections: the longest one
/// outside the NodePorts and above the usual ports of servers.
const SHARED: SnatPorts = SnatPorts { first: 32_768, count: 32_768 };

const PORT_RANGE: &str = "net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";

/// A block of source ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnatPorts {
    pub first: u16,
    pub count: u16,
}

impl SnatPorts {
    pub fn contains(self, port: u16) -> bool {
        port.checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }

    pub const fn last(self) -> u16 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }
}

/// The ports that the host gives its own connections.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EphemeralPorts {
    range: RangeInclusive<u16>,
    /// Ports of that range that the host does not use.
    reserved: Vec<RangeInclusive<u16>>,
}

impl EphemeralPorts {
    /// Reads the sysctls of this network namespace.
    pub fn of_host() -> Self {
        let setting = |name| sysctl(name).unwrap_or_default();
        Self::parse(&setting(PORT_RANGE), &setting(RESERVED_PORTS))
    }

    /// Uses the kernel's default if the text is not a range.
    fn parse(range: &str, reserved: &str) -> Self {
        let mut numbers = range.split_whitespace().filter_map(|n| n.parse().ok());
        let range = match (numbers.next(), numbers.next()) {
            (Some(first), Some(last)) => first..=last,
            _ => 32_768..=60_999,
        };
        let block = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        Self { range, reserved: reserved.trim().split(',').filter_map(block).collect() }
    }

    /// The first and the last NodePort in the range that are not reserved.
    pub fn node_ports(&self) -> Option<(u16, u16)> {
        let mut shared = NODE_PORTS.filter(|port| self.contains(*port));
        let first = shared.next()?;
        Some((first, shared.next_back().unwrap_or(first)))
    }

    fn contains(&self, port: u16) -> bool {
        self.range.contains(&port) && !self.reserved.iter().any(|block| block.contains(&port))
    }
}

/// The longest block that neither the host's connections nor NodePorts use; [`SHARED`] if that is too short.
pub fn choose(ephemeral: &EphemeralPorts) -> SnatPorts {
    let is_free = |port: &u16| !ephemeral.contains(*port) && !NODE_PORTS.contains(port);
    let (mut best, mut current) = (SnatPorts { first: 0, count: 0 }, SnatPorts { first: LOWEST, count: 0 });
    for port in LOWEST..=u16::MAX {
        if is_free(&port) {
            current.count += 1;
        } else {
            current = SnatPorts { first: port.saturating_add(1), count: 0 };
        }
        if current.count > best.count {
            best = current;
        }
    }
    if best.count < LEAST { SHARED } else { best }
}

/// The sysctl to change, and the reason, if connections of the host may get the same ports.
pub fn overlap(ports: SnatPorts, ephemeral: &EphemeralPorts) -> Option<(&'static str, String)> {
    let shared = (ports.first..=ports.last()).filter(|port| ephemeral.contains(*port)).count();
    (shared > 0).then(|| {
        let reason = format!(
            "{}-{}: the node's own connections use {shared} of the masquerade's ports {}-{}; add these ports to {} or choose \
             others by --snat-ports",
            ephemeral.range.start(),
            ephemeral.range.end(),
            ports.first,
            ports.last(),
            RESERVED_PORTS,
        );
        (PORT_RANGE, reason)
    })
}

/// The reason for a complaint if ports are in Kubernetes' default range of NodePorts: a datagram that comes late, after its
/// flow has expired, is then a client's of that NodePort.
pub fn among_node_ports(ports: SnatPorts) -> Option<String> {
    let shared = NODE_PORTS.filter(|port| ports.contains(*port)).count();
    (shared > 0).then(|| {
        format!(
            "{shared} of the masquerade's ports {}-{} are in the range of NodePorts, {}-{}: a late reply may be taken for a \
             request to a NodePort; choose others",
            ports.first,
            ports.last(),
            NODE_PORTS.start(),
            NODE_PORTS.end(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(range: &str, reserved: &str) -> (u16, u16) {
        let ports = choose(&EphemeralPorts::parse(range, reserved));
        (ports.first, ports.last())
    }

    #[test]
    fn the_longest_block_beside_ephemeral_ports_and_node_ports_is_taken() {
        let rows = [
            ("32768\t60999\n", "", (1024, 29_999)),
            ("1024 40000", "", (40_001, 65_535)),
            ("10000 65535", "", (1024, 9999)),
            ("1024 29999", "", (32_768, 65_535)),
            ("1024 60000", "", (60_001, 65_535)),
            ("20000 20000", "", (32_768, 65_535)),
            ("65535 65535", "", (32_768, 65_534)),
            ("not a range", "", (1024, 29_999)),
        ];
        for (range, reserved, expected) in rows {
            assert_eq!(chosen(range, reserved), expected, "{range:?}");
        }
    }

    #[test]
    fn ports_that_the_host_reserves_are_free() {
        assert_eq!(chosen("1024 65535", "40000-49999\n"), (40_000, 49_999));
        assert_eq!(chosen("1024 65535", "8080,9000-9001,50000-59999"), (50_000, 59_999));
        // Many hosts reserve NodePorts; that does not make them source ports.
        assert_eq!(chosen("1024 65535", "30000-32767"), (32_768, 65_535));
        assert_eq!(chosen("1024 65535", "nonsense,1-"), (32_768, 65_535));
    }

    #[test]
    fn without_a_large_free_block_the_host_shares_its_ports() {
        for range in ["1024 65535", "1025 65535", "2000 65535", "1024 65534", "5000 65535", "0 65535"] {
            assert_eq!(chosen(range, ""), (32_768, 65_535), "{range:?}");
        }
    }

    #[test]
    fn every_range_of_the_host_leaves_ports_that_are_no_node_ports() {
        let edges =
            [0, 1, 1023, 1024, 1025, 4096, 9999, 29_999, 30_000, 32_767, 32_768, 61_439, 61_440, 65_535];
        for (first, last) in edges.iter().flat_map(|first| edges.map(|last| (*first, last))) {
            let ephemeral = EphemeralPorts { range: first..=last, reserved: Vec::new() };
            let ports = choose(&ephemeral);
            assert!(ports.first >= LOWEST && ports.count >= LEAST, "{first} {last}: {ports:?}");
            assert_eq!(u32::from(ports.first) + u32::from(ports.count) - 1, u32::from(ports.last()));
            assert!(!NODE_PORTS.clone().any(|port| ports.contains(port)), "{first} {last}: {ports:?}");
            assert!(ports == SHARED || overlap(ports, &ephemeral).is_none(), "{first} {last}: {ports:?}");
        }
    }

    #[test]
    fn ports_among_the_node_ports_are_reported() {
        let rows = [
            ((1024, 28_976), None),
            ((29_000, 1001), Some(1)),
            ((31_000, 100), Some(100)),
            ((32_768, 10), None),
        ];
        for ((first, count), expected) in rows {
            let reason = among_node_ports(SnatPorts { first, count });
            let shared = reason.map(|reason| reason.split(' ').next().unwrap().parse::<u32>().unwrap());
            assert_eq!(shared, expected, "{first}, {count} ports");
        }
    }

    #[test]
    fn a_shared_block_is_reported_with_its_remedy() {
        let overlap_of = |range, reserved| overlap(SHARED, &EphemeralPorts::parse(range, reserved));
        let (sysctl, reason) = overlap_of("1024 65535", "").unwrap();
        assert_eq!(sysctl, "net/ipv4/ip_local_port_range");
        for part in ["1024-65535", "32768 of", "32768-65535", "ip_local_reserved_ports", "--snat-ports"] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
        assert_eq!(overlap_of("1024 32767", ""), None);
        assert_eq!(overlap_of("1024 65535", "32768-65535"), None);
    }
}
