//! Live flows, counted by a pass over a flow table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use svc_common::abi::ServicePortId;
use svc_common::addr::Proto;

use crate::node::neighbors::{NextHop, NextHops};

/// Number of destinations that are reported by name.
const NAMED: usize = 10;

/// Live flows of one pass. A flow is counted by its forward record.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub by_service: HashMap<ServicePortId, u64>,
    /// Masqueraded flows by backend and protocol: each has its own source port there.
    masqueraded: HashMap<(SocketAddr, Proto), u64>,
    /// Neighbors that packets are redirected to.
    pub next_hops: BTreeSet<NextHop>,
}

/// SNAT ports in use towards one backend.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SnatUse {
    pub destination: SocketAddr,
    pub proto: Proto,
    pub ports: u64,
}

impl Live {
    /// Counts a flow; `masqueraded_to` is its backend if its source was translated.
    pub fn add(&mut self, service: ServicePortId, proto: Proto, masqueraded_to: Option<SocketAddr>) {
        *self.by_service.entry(service).or_default() += 1;
        if let Some(destination) = masqueraded_to {
            *self.masqueraded.entry((destination, proto)).or_default() += 1;
        }
    }

    pub fn flows(&self) -> u64 {
        self.by_service.values().sum()
    }

    /// The destinations with the most SNAT ports of all these tables, largest first.
    fn most_snat_ports(tables: [&Self; 2]) -> Vec<SnatUse> {
        let mut sums = HashMap::new();
        for (&to, &ports) in tables.iter().flat_map(|live| &live.masqueraded) {
            *sums.entry(to).or_default() += ports;
        }
        let uses =
            sums.into_iter().map(|((destination, proto), ports)| SnatUse { destination, proto, ports });
        let mut uses: Vec<SnatUse> = uses.collect();
        uses.sort_unstable_by(|a, b| b.ports.cmp(&a.ports).then_with(|| a.cmp(b)));
        uses.truncate(NAMED);
        uses
    }
}

/// Live flows of both families.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LiveReport {
    /// IPv4, IPv6.
    pub flows: [u64; 2],
    pub by_service: BTreeMap<u32, u64>,
    /// The destinations with the most SNAT ports in use, by family.
    pub snat: [Vec<SnatUse>; 2],
    pub next_hops: NextHops,
}

impl LiveReport {
    /// From the passes over the flow table and the table of unassured flows of each family.
    pub fn of(families: [[&Live; 2]; 2]) -> Self {
        let mut by_service = BTreeMap::new();
        for (service, count) in families.as_flattened().iter().flat_map(|live| &live.by_service) {
            *by_service.entry(service.0).or_default() += count;
        }
        let next_hops = families.as_flattened().iter().flat_map(|live| live.next_hops.iter().copied());
        Self {
            flows: families.map(|tables| tables.map(Live::flows).iter().sum()),
            by_service,
            snat: families.map(Live::most_snat_ports),
            next_hops: Arc::new(next_hops.collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_count_for_their_service_and_masqueraded_ones_for_their_destination() {
        let (mut v4, mut unassured, v6) = (Live::default(), Live::default(), Live::default());
        let backend = |n: u8| Some(SocketAddr::from(([10, 0, 0, n], 80)));
        v4.add(ServicePortId(1), Proto::TCP, None);
        v4.add(ServicePortId(1), Proto::TCP, backend(1));
        v4.add(ServicePortId(2), Proto::TCP, backend(2));
        unassured.add(ServicePortId(2), Proto::TCP, backend(2));
        v4.add(ServicePortId(2), Proto::UDP, backend(2));
        let report = LiveReport::of([[&v4, &unassured], [&v6, &v6]]);
        assert_eq!((report.flows, &report.by_service), ([5, 0], &[(1, 2), (2, 3)].into()));
        let uses: Vec<_> = report.snat[0].iter().map(|u| (u.destination.to_string(), u.ports)).collect();
        let named = |text: &str, ports| (text.to_owned(), ports);
        assert_eq!(uses, [named("10.0.0.2:80", 2), named("10.0.0.1:80", 1), named("10.0.0.2:80", 1)]);
    }
}
