//! Pools of addresses for load balancers, checked when they are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Deserialize;

use crate::model::name::IpFamily;

/// A pool as it is written.
#[derive(Clone, Debug, Deserialize)]
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
    pub service_selectors: Vec<Selector>,
}

const fn yes() -> bool {
    true
}

/// Selects Services by their labels, as Kubernetes' LabelSelector does.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Objects with these labels are selected.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |key: &str, values: &[String]| labels.get(key).is_some_and(|value| values.contains(value));
        let holds = |expression: &Expression| match expression.operator {
            Operator::In => has(&expression.key, &expression.values),
            Operator::NotIn => !has(&expression.key, &expression.values),
            Operator::Exists => labels.contains_key(&expression.key),
            Operator::DoesNotExist => !labels.contains_key(&expression.key),
        };
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(holds)
    }
}

/// Addresses from the first to the last, of one family.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Range {
    family: IpFamily,
    first: u128,
    last: u128,
}

impl Range {
    fn new(first: IpAddr, last: IpAddr) -> Self {
        Self { family: IpFamily::of(first), first: number(first), last: number(last) }
    }

    fn parse(text: &str) -> Result<Self, PoolError> {
        let unclear = || PoolError::Unclear(text.to_owned());
        let range = if let Some((first, last)) = text.split_once('-') {
            let parse = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| unclear());
            let (first, last) = (parse(first)?, parse(last)?);
            if IpFamily::of(first) != IpFamily::of(last) {
                return Err(PoolError::TwoFamilies(text.to_owned()));
            }
            if first > last {
                return Err(PoolError::Backwards(text.to_owned()));
            }
            Self::new(first, last)
        } else {
            let net: IpNet = text.trim().parse().map_err(|_| unclear())?;
            if net.trunc() != net {
                return Err(PoolError::Boundary(text.to_owned(), net.trunc()));
            }
            Self::of_net(net)
        };
        let of_nobody = ["0.0.0.0/32", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"];
        let of_nobody = of_nobody.iter().filter_map(|net| net.parse().ok()).map(Self::of_net);
        match of_nobody.into_iter().any(|other| other.overlaps(&range)) {
            true => Err(PoolError::OfNobody(text.to_owned())),
            false => Ok(range),
        }
    }

    fn of_net(net: IpNet) -> Self {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let span = 1_u128.checked_shl(bits).map_or(u128::MAX, |count| count - 1);
        let first = number(net.network());
        Self { family: IpFamily::of(net.addr()), first, last: first + span }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    fn contains(&self, address: IpAddr) -> bool {
        IpFamily::of(address) == self.family && (self.first..=self.last).contains(&number(address))
    }
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::from(number as u32).into(),
        IpFamily::V6 => Ipv6Addr::from(number).into(),
    }
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
    namespaces: BTreeSet<String>,
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
    #[error("{0:?} is neither a CIDR nor a range (a-b)")]
    Unclear(String),
    #[error("the range {0} has addresses of two families")]
    TwoFamilies(String),
    #[error("the range {0} is backwards")]
    Backwards(String),
    #[error("{0} is not on its boundary: did you mean {1}?")]
    Boundary(String, IpNet),
    #[error("{0} has addresses that no Service can have (multicast, link-local, loopback, unspecified)")]
    OfNobody(String),
    #[error("it overlaps the pool {0:?}, which stands before it: it gives no addresses")]
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
            selectors: spec.service_selectors,
        })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_in_range(address) && !self.avoids(address)
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
        !self.namespaces.is_empty() || !self.selectors.is_empty()
    }

    /// A Service of this namespace with these labels may have an address of the pool.
    pub fn admits(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        (self.namespaces.is_empty() || self.namespaces.contains(namespace))
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

/// Sorts ranges and merges overlapping ones.
fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut all: Vec<Range> = Vec::new();
    for range in ranges {
        match all.last_mut().filter(|last| last.overlaps(&range)) {
            Some(last) => last.last = last.last.max(range.last),
            None => all.push(range),
        }
    }
    all
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
        let (mut pools, mut refused): (Vec<Pool>, Vec<_>) = (Vec::new(), Vec::new());
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
            let meets = |net: &&IpNet| {
                let net = Range::of_net(**net);
                pool.ranges.iter().any(|range| range.overlaps(&net))
            };
            if let Some(net) = service_cidrs.iter().find(meets) {
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
