//! Usage of the pools, for metrics and alerts. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::allocate::{Allocation, Reason};
use super::pool::Pools;
use crate::model::name::IpFamily;

/// The use of all pools.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PoolsUse {
    pub pools: Vec<PoolUse>,
    /// Services without an address because no address is free.
    pub exhausted: u64,
    /// Services without an address for another reason.
    pub refused: u64,
}

/// The use of a pool in one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolUse {
    pub pool: String,
    pub family: IpFamily,
    pub addresses: u64,
    pub in_use: u64,
}

impl PoolsUse {
    /// `in_use` are the addresses of all Services, also those that svc has not allocated.
    pub fn of(pools: &Pools, allocation: &Allocation, in_use: &BTreeSet<IpAddr>) -> Self {
        let families = |pool| [IpFamily::V4, IpFamily::V6].map(|family| (pool, family));
        let uses = pools.iter().flat_map(families).filter_map(|(pool, family)| {
            let is_here = |ip: &&IpAddr| IpFamily::of(**ip) == family && pool.contains(**ip);
            let addresses = pool.capacity(family);
            (addresses > 0).then(|| PoolUse {
                pool: pool.name.clone(),
                family,
                addresses,
                in_use: in_use.iter().filter(is_here).count() as u64,
            })
        });
        let is_exhausted = |reason: &&Reason| matches!(reason, Reason::Exhausted(_) | Reason::NoPair);
        let exhausted = allocation.reasons.values().filter(is_exhausted).count() as u64;
        let refused = allocation.reasons.len() as u64 - exhausted;
        Self { pools: uses.collect(), exhausted, refused }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lb::settings::LoadBalancerSettings;
    use crate::model::name::ServiceName;

    fn pools(yaml: &str) -> Pools {
        LoadBalancerSettings::read(serde_yaml_ng::from_str(yaml).unwrap()).0.pools
    }

    #[test]
    fn addresses_count_by_pool_and_family_and_services_without_one_by_reason() {
        let pools = pools(
            "{pools: [{name: a, addresses: [192.0.2.0/30, 2001:db8::/64]}, {name: b, addresses: [198.51.100.1-198.51.100.2]}]}",
        );
        let in_use = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "203.0.113.1"].map(|ip| ip.parse().unwrap());
        let service = |name: &str| ServiceName::new("shop", name);
        let reasons = [
            (service("full"), Reason::Exhausted("a".to_owned())),
            (service("pair"), Reason::NoPair),
            (service("other"), Reason::NoPool),
        ];
        let allocation = Allocation { reasons: BTreeMap::from(reasons), ..Allocation::default() };
        let found = PoolsUse::of(&pools, &allocation, &in_use.into());
        let row = |pool: &str, family, addresses, in_use| PoolUse {
            pool: pool.to_owned(),
            family,
            addresses,
            in_use,
        };
        let rows = vec![
            row("a", IpFamily::V4, 4, 2),
            row("a", IpFamily::V6, u64::MAX, 1),
            row("b", IpFamily::V4, 2, 0),
        ];
        assert_eq!(found, PoolsUse { pools: rows, exhausted: 2, refused: 1 });
    }

    #[test]
    fn sem_304_addresses_that_a_pool_avoids_are_no_room() {
        for (range, room) in [
            ("192.0.2.0/24", 254),
            ("192.0.2.0/23", 508),
            ("192.0.2.255-192.0.3.0", 0),
            ("192.0.2.1-192.0.2.9", 9),
            ("192.0.2.0-192.0.2.9", 9),
            ("192.0.2.9-192.0.3.9", 255),
        ] {
            let pools =
                pools(&format!("{{pools: [{{name: a, addresses: [{range}], avoidBuggyIPs: true}}]}}"));
            let pool = pools.iter().next().unwrap();
            assert_eq!(pool.capacity(IpFamily::V4), room, "{range}");
            let counted = pool.addresses_from(IpFamily::V4, 0).count() as u64;
            assert_eq!(counted, room, "{range}");
        }
    }
}
