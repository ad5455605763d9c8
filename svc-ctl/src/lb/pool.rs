//! Pools of addresses for load balancers, checked when they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::range::{Range, RangeError, address, merged};
use super::selector::{Labels, Namespaces, Selector};
use crate::model::name::IpFamily;

/// A pool as it is written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    pub name: String,
    pub addresses: Vec<String>,
    #[serde(default = "yes")]
    pub auto_assign: bool,
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default)]
    pub priority: u32,
    #[serde(default)]
    pub namespaces: BTreeSet<String>,
    #[serde(default)]
    pub namespace_selectors: Vec<Selector>,
    #[serde(default)]
    pub service_selectors: Vec<Selector>,
}

const fn yes() -> bool {
    true
}

/// A pool that can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pool {
    pub name: String,
    /// Sorted; none overlaps another.
    ranges: Vec<Range>,
    /// Addresses of nodes, which no Service may have.
    of_nodes: BTreeSet<IpAddr>,
    pub auto_assign: bool,
    avoids_buggy_ips: bool,
    /// Services keep their addresses of the pool, and no other Service gets one.
    pub is_disabled: bool,
    priority: u32,
    /// Namespaces by name, and those that [`Pools::in_namespaces`] has found for the selectors.
    namespaces: BTreeSet<String>,
    namespace_selectors: Vec<Selector>,
    selectors: Vec<Selector>,
}

/// Why a pool cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PoolError {
    #[error("the pool has no name")]
    NoName,
    #[error("a second pool of the name {0:?}")]
    SecondOfName(String),
    #[error("the pool has no addresses")]
    Empty,
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error("it overlaps the pool {0:?}, which comes before it: it gives no addresses")]
    Overlaps(String),
    #[error("it holds {0}, an address of Node {1}: no Service gets this address")]
    NodeAddress(IpAddr, String),
    #[error("it overlaps the Service CIDR {0}: it gives no addresses")]
    ServiceCidr(IpNet),
}

impl PoolError {
    /// The field that is wrong.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::NoName | Self::SecondOfName(_) => "name",
            _ => "addresses",
        }
    }
}

impl Pool {
    fn new(spec: PoolSpec) -> Result<Self, PoolError> {
        if spec.name.is_empty() {
            return Err(PoolError::NoName);
        }
        if spec.addresses.is_empty() {
            return Err(PoolError::Empty);
        }
        let ranges = spec.addresses.iter().map(|text| Range::parse(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            name: spec.name,
            ranges: merged(ranges),
            of_nodes: BTreeSet::new(),
            auto_assign: spec.auto_assign,
            avoids_buggy_ips: spec.avoid_buggy_ips,
            is_disabled: spec.disabled,
            priority: spec.priority,
            namespaces: spec.namespaces,
            namespace_selectors: spec.namespace_selectors,
            selectors: spec.service_selectors,
        })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_in_range(address) && !self.avoids(address)
    }

    /// Some address of the pool is in the network.
    pub fn meets(&self, net: IpNet) -> bool {
        let net = Range::of_net(net);
        self.ranges.iter().any(|range| range.overlaps(&net))
    }

    /// All addresses of the prefix are in one range of the pool.
    pub fn covers(&self, net: IpNet) -> bool {
        let net = Range::of_net(net);
        let is_within = |range: &Range| range.first <= net.first && net.last <= range.last;
        self.ranges.iter().any(|range| range.family == net.family && is_within(range))
    }

    /// The first and the last address of each range.
    pub fn ends(&self) -> impl Iterator<Item = IpAddr> {
        self.ranges
            .iter()
            .flat_map(|range| [range.first, range.last].map(|number| address(range.family, number)))
    }

    fn is_in_range(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    fn avoids(&self, address: IpAddr) -> bool {
        self.is_buggy(address) || self.of_nodes.contains(&address)
    }

    /// Some home routers take the first and the last address of an old class C network for something else.
    fn is_buggy(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(ip) if self.avoids_buggy_ips && matches!(ip.octets()[3], 0 | 255))
    }

    /// The pool is for some Services only.
    pub fn is_pinned(&self) -> bool {
        self.is_of_namespaces() || !self.selectors.is_empty()
    }

    fn is_of_namespaces(&self) -> bool {
        !self.namespaces.is_empty() || !self.namespace_selectors.is_empty()
    }

    /// A Service of this namespace with these labels may have an address of the pool.
    pub fn admits(&self, namespace: &str, labels: &Labels) -> bool {
        (!self.is_of_namespaces() || self.namespaces.contains(namespace))
            && (self.selectors.is_empty() || self.selectors.iter().any(|s| s.selects(labels)))
    }

    /// Lower numbers come first; 0 is last.
    pub const fn rank(&self) -> u32 {
        self.priority.wrapping_sub(1)
    }

    /// Number of addresses of a family.
    pub fn size(&self, family: IpFamily) -> u128 {
        let of_family = self.ranges.iter().filter(|range| range.family == family);
        of_family.map(|range| (range.last - range.first).saturating_add(1)).fold(0, u128::saturating_add)
    }

    /// Number of addresses of a family that Services may get.
    pub fn capacity(&self, family: IpFamily) -> u64 {
        let avoided_below = |number: u128| number / 256 * 2 + u128::from(!number.is_multiple_of(256));
        let of_family = self.ranges.iter().filter(|range| range.family == family);
        let avoided = match (self.avoids_buggy_ips, family) {
            (true, IpFamily::V4) => {
                of_family.map(|range| avoided_below(range.last + 1) - avoided_below(range.first)).sum()
            }
            _ => 0,
        };
        let is_counted = |ip: &&IpAddr| IpFamily::of(**ip) == family && !self.is_buggy(**ip);
        let of_nodes = self.of_nodes.iter().filter(is_counted).count() as u128;
        u64::try_from(self.size(family) - avoided - of_nodes).unwrap_or(u64::MAX)
    }

    /// The addresses of a family in ascending order, beginning at this place and wrapping around.
    pub fn addresses_from(&self, family: IpFamily, place: u128) -> impl Iterator<Item = IpAddr> {
        let size = self.size(family);
        let numbers = (0..size).map(move |step| (place % size + step) % size);
        numbers.filter_map(move |n| self.nth(family, n)).filter(|ip| !self.avoids(*ip))
    }

    fn nth(&self, family: IpFamily, mut n: u128) -> Option<IpAddr> {
        for range in self.ranges.iter().filter(|range| range.family == family) {
            let count = (range.last - range.first).saturating_add(1);
            if n < count {
                return Some(address(family, range.first + n));
            }
            n -= count;
        }
        None
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// All pools, in the order in which they are written: of two that overlap the first gives addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pools(Vec<Pool>);

impl Pools {
    /// The usable pools, and for each unusable one its number and the reason.
    pub fn new(specs: Vec<(usize, PoolSpec)>) -> (Self, Vec<(usize, PoolError)>) {
        Self::default().with(specs)
    }

    /// Adds pools after these: the usable ones, and for each unusable one its number and the reason.
    pub fn with(self, specs: Vec<(usize, PoolSpec)>) -> (Self, Vec<(usize, PoolError)>) {
        let (mut pools, mut refused) = (self.0, Vec::new());
        for (number, spec) in specs {
            let checked = Pool::new(spec).and_then(|pool| {
                if pools.iter().any(|other| other.name == pool.name) {
                    return Err(PoolError::SecondOfName(pool.name));
                }
                let meets =
                    |other: &&Pool| other.ranges.iter().any(|a| pool.ranges.iter().any(|b| a.overlaps(b)));
                match pools.iter().find(meets) {
                    Some(other) => Err(PoolError::Overlaps(other.name.clone())),
                    None => Ok(pool),
                }
            });
            match checked {
                Ok(pool) => pools.push(pool),
                Err(error) => refused.push((number, error)),
            }
        }
        (Self(pools), refused)
    }

    /// Without the addresses of nodes, and without pools that overlap a Service CIDR. Names each faulty pool and its
    /// fault.
    pub fn without(
        &self,
        nodes: &BTreeMap<IpAddr, String>,
        service_cidrs: &[IpNet],
    ) -> (Self, Vec<(String, PoolError)>) {
        let (mut pools, mut refused) = (Vec::new(), Vec::new());
        for pool in &self.0 {
            let of_nodes: BTreeMap<_, _> = nodes.iter().filter(|(ip, _)| pool.is_in_range(**ip)).collect();
            if let Some(net) = service_cidrs.iter().find(|net| pool.meets(**net)) {
                refused.push((pool.name.clone(), PoolError::ServiceCidr(*net)));
                continue;
            }
            pools.push(Pool { of_nodes: of_nodes.keys().map(|ip| **ip).collect(), ..pool.clone() });
            refused.extend(
                of_nodes
                    .into_iter()
                    .map(|(ip, node)| (pool.name.clone(), PoolError::NodeAddress(*ip, node.clone()))),
            );
        }
        (Self(pools), refused)
    }

    /// Some pool selects Namespaces by their labels.
    pub fn selects_namespaces(&self) -> bool {
        self.0.iter().any(|pool| !pool.namespace_selectors.is_empty())
    }

    /// The pools with the Namespaces that their selectors select.
    #[must_use]
    pub fn in_namespaces(mut self, all: &Namespaces) -> Self {
        for pool in &mut self.0 {
            let selectors = &pool.namespace_selectors;
            let is_selected = |labels: &Labels| selectors.iter().any(|selector| selector.selects(labels));
            let selected = all.iter().filter(|(_, labels)| is_selected(labels));
            pool.namespaces.extend(selected.map(|(name, _)| name.clone()));
        }
        self
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.0.iter()
    }

    /// The ranges of all pools: family, first and last address as numbers.
    pub fn ranges(&self) -> impl Iterator<Item = (IpFamily, u128, u128)> {
        self.0.iter().flat_map(|pool| &pool.ranges).map(|range| (range.family, range.first, range.last))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pool that has an address.
    pub fn of(&self, address: IpAddr) -> Option<&Pool> {
        self.0.iter().find(|pool| pool.contains(address))
    }
}
