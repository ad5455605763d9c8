//! Gives Services addresses of pools. Pure: the inputs are Services, pools and the Services' earlier addresses; the
//! outputs are addresses and reasons.
//!
//! A Service keeps its addresses as long as a pool has them. Then the others get addresses, the oldest Service first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::pool::{Pool, Pools};
use super::request::{Request, Sharing};
use crate::model::name::{IpFamily, ServiceName};

/// Addresses of a family that are tried in one pool.
const MOST_TRIED: usize = 1 << 17;

/// Where a Service begins to look in a pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// At the lowest address: one allocator decides for all.
    Lowest,
    /// At a place that follows from its name, so that nodes with different histories find the same address.
    ByName,
}

/// The addresses that Services have.
pub type Given = BTreeMap<ServiceName, Vec<IpAddr>>;

/// Addresses of Services that svc does not serve. No other Service gets one of them.
pub type Foreign = BTreeMap<IpAddr, ServiceName>;

/// Why a Service does not get the address that it asks for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reason {
    #[error("no pool is for this Service")]
    NoPool,
    #[error("there is no pool {0:?}")]
    UnknownPool(String),
    #[error("the pool {0:?} is not for this Service")]
    NotAdmitted(String),
    #[error("no address is free in {0}")]
    Exhausted(String),
    #[error("no pool has {0}")]
    NotInPool(IpAddr),
    #[error("{0} belongs to another pool than the other address or the pool that is asked for")]
    AnotherPool(IpAddr),
    #[error("{0} is of a family that the Service does not have, or a second one of its family")]
    FamilyUnsatisfied(IpAddr),
    #[error("{0} is Service {1}'s, which does not share it: {2}")]
    Taken(IpAddr, ServiceName, &'static str),
    #[error("the pool {0:?} is disabled and gives nothing new")]
    Disabled(String),
    #[error("no pool has a free address of each family")]
    NoPair,
}

/// The addresses of Services, and why others have none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Allocation {
    pub given: Given,
    pub reasons: BTreeMap<ServiceName, Reason>,
}

/// Gives addresses. `previous` has the Services' earlier addresses. If Services share an address that cannot be shared,
/// the oldest one keeps it. A Service that had a `foreign` address keeps it too.
pub fn allocate(
    requests: &[Request],
    pools: &Pools,
    previous: &Given,
    foreign: &Foreign,
    order: Order,
) -> Allocation {
    let mut sorted: Vec<&Request> = requests.iter().collect();
    sorted.sort_by_key(|request| (request.created.unwrap_or(i64::MAX), request.service.clone()));
    let mut book = Book { pools, foreign, order, users: BTreeMap::new(), given: Given::new() };
    for request in &sorted {
        let before = previous.get(&request.service).map_or(&[][..], Vec::as_slice);
        let kept = book.kept(request, before);
        book.give(request, kept);
    }
    let mut reasons = BTreeMap::new();
    for request in &sorted {
        match book.wanted(request) {
            Ok(new) => book.give(request, new),
            Err(reason) => drop(reasons.insert(request.service.clone(), reason)),
        }
    }
    for addresses in book.given.values_mut() {
        addresses.sort_unstable_by_key(|ip| (IpFamily::of(*ip), *ip));
    }
    book.given.retain(|_, addresses| !addresses.is_empty());
    Allocation { given: book.given, reasons }
}

struct Book<'a> {
    pools: &'a Pools,
    foreign: &'a Foreign,
    order: Order,
    users: BTreeMap<IpAddr, Vec<&'a Request>>,
    given: Given,
}

impl<'a> Book<'a> {
    fn give(&mut self, request: &'a Request, addresses: Vec<IpAddr>) {
        for ip in &addresses {
            self.users.entry(*ip).or_default().push(request);
        }
        self.given.entry(request.service.clone()).or_default().extend(addresses);
    }

    /// The addresses that a Service keeps: one of each of its families, all from one pool that admits it.
    fn kept(&self, request: &Request, before: &[IpAddr]) -> Vec<IpAddr> {
        let mut kept: Vec<IpAddr> = Vec::new();
        let mut home: Option<&Pool> = None;
        for ip in before {
            let Some(pool) = self.pools.of(*ip).filter(|pool| admits(pool, request)) else { continue };
            let is_asked = request.addresses.is_empty() || request.addresses.contains(ip);
            let is_home = home.is_none_or(|home| home.name == pool.name);
            let is_new_family = is_wanted_family(request, &kept, *ip);
            if is_asked && is_home && is_new_family && self.rival(request, *ip).is_none() {
                kept.push(*ip);
                home = Some(pool);
            }
        }
        let is_whole = !request.needs_all || kept.len() == request.families.len();
        if is_whole { kept } else { Vec::new() }
    }

    /// New addresses for a Service in addition to its present ones; none if it cannot get more.
    fn wanted(&self, request: &Request) -> Result<Vec<IpAddr>, Reason> {
        let has = self.given.get(&request.service).map_or(&[][..], Vec::as_slice);
        if !request.addresses.is_empty() {
            return self.asked(request, has);
        }
        let lacks: Vec<IpFamily> = request
            .families
            .iter()
            .copied()
            .filter(|f| !has.iter().any(|ip| IpFamily::of(*ip) == *f))
            .collect();
        if lacks.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(first) = has.first() {
            // A second address comes from the pool of the first, or not at all.
            let home = self.pools.of(*first).filter(|pool| !pool.is_disabled);
            return Ok(home.and_then(|pool| self.each(request, pool, &lacks)).unwrap_or_default());
        }
        let pools = self.pools_for(request)?;
        let mut attempts = vec![lacks.clone()];
        if !request.needs_all && lacks.len() > 1 {
            attempts.extend(lacks.iter().map(|family| vec![*family]));
        }
        for families in attempts {
            if let Some(found) = pools.iter().find_map(|pool| self.each(request, pool, &families)) {
                return Ok(found);
            }
        }
        let names = pools.iter().map(|pool| format!("{:?}", pool.name)).collect::<Vec<_>>().join(", ");
        Err(if request.needs_all && lacks.len() > 1 { Reason::NoPair } else { Reason::Exhausted(names) })
    }

    /// The pools in which a Service looks, in order.
    fn pools_for(&self, request: &Request) -> Result<Vec<&'a Pool>, Reason> {
        if let Some(name) = &request.pool {
            let pool = self.pools.iter().find(|pool| pool.name == *name);
            let pool = pool.ok_or_else(|| Reason::UnknownPool(name.clone()))?;
            return match () {
                () if !admits(pool, request) => Err(Reason::NotAdmitted(name.clone())),
                () if pool.is_disabled => Err(Reason::Disabled(name.clone())),
                () => Ok(vec![pool]),
            };
        }
        let is_open = |pool: &&Pool| admits(pool, request) && pool.auto_assign && !pool.is_disabled;
        let mut pools: Vec<&Pool> = self.pools.iter().filter(is_open).collect();
        pools.sort_by_key(|pool| (!pool.is_pinned(), pool.rank()));
        if pools.is_empty() { Err(Reason::NoPool) } else { Ok(pools) }
    }

    /// The addresses that a Service asks for explicitly. It gets all of them or none.
    fn asked(&self, request: &Request, has: &[IpAddr]) -> Result<Vec<IpAddr>, Reason> {
        let mut new: Vec<IpAddr> = Vec::new();
        let mut home = request.pool.clone();
        for ip in &request.addresses {
            let pool = self.pools.of(*ip).ok_or(Reason::NotInPool(*ip))?;
            if !admits(pool, request) {
                return Err(Reason::NotAdmitted(pool.name.clone()));
            }
            if home.get_or_insert_with(|| pool.name.clone()) != &pool.name {
                return Err(Reason::AnotherPool(*ip));
            }
            if has.contains(ip) {
                continue;
            }
            if pool.is_disabled {
                return Err(Reason::Disabled(pool.name.clone()));
            }
            if !is_wanted_family(request, &[has, &new].concat(), *ip) {
                return Err(Reason::FamilyUnsatisfied(*ip));
            }
            if let Some(other) = self.foreign.get(ip) {
                return Err(Reason::Taken(*ip, other.clone(), "it is another load balancer's"));
            }
            if let Some((other, why)) = self.rival(request, *ip) {
                return Err(Reason::Taken(*ip, other.service.clone(), why));
            }
            new.push(*ip);
        }
        Ok(new)
    }

    /// A free address of each family from one pool.
    fn each(&self, request: &Request, pool: &Pool, families: &[IpFamily]) -> Option<Vec<IpAddr>> {
        families.iter().map(|family| self.free(request, pool, *family)).collect()
    }

    fn free(&self, request: &Request, pool: &Pool, family: IpFamily) -> Option<IpAddr> {
        // Services of one sharing key come together.
        let key = |request: &Request| request.sharing.as_ref().map(|sharing| sharing.key.clone());
        let shared = self.users.iter().find(|(ip, users)| {
            let is_ours = key(request).is_some() && users.iter().any(|user| key(user) == key(request));
            is_ours
                && IpFamily::of(**ip) == family
                && pool.contains(**ip)
                && !self.foreign.contains_key(*ip)
                && self.rival(request, **ip).is_none()
        });
        let size = pool.size(family);
        let place = match self.order {
            Order::Lowest => 0,
            Order::ByName => place(&request.service, family, size),
        };
        let mut untouched = pool.addresses_from(family, place).take(MOST_TRIED);
        let is_free = |ip: &IpAddr| !self.users.contains_key(ip) && !self.foreign.contains_key(ip);
        shared.map(|(ip, _)| *ip).or_else(|| untouched.find(|ip| is_free(ip)))
    }

    /// A Service that has the address and does not share it with this one, and why not.
    fn rival(&self, request: &Request, ip: IpAddr) -> Option<(&'a Request, &'static str)> {
        let hindrance = |a: Option<&Sharing>, b: Option<&Sharing>| match (a, b) {
            (Some(a), Some(b)) => a.hindrance(b),
            _ => Some("not both have a sharing key"),
        };
        let users = self.users.get(&ip).into_iter().flatten().filter(|user| user.service != request.service);
        users
            .filter_map(|user| Some((*user, hindrance(request.sharing.as_ref(), user.sharing.as_ref())?)))
            .next()
    }
}

fn admits(pool: &Pool, request: &Request) -> bool {
    let is_named = request.pool.as_ref().is_none_or(|name| *name == pool.name);
    is_named && pool.admits(&request.service.namespace, &request.labels)
}

fn is_wanted_family(request: &Request, has: &[IpAddr], ip: IpAddr) -> bool {
    let family = IpFamily::of(ip);
    request.families.contains(&family) && !has.iter().any(|other| IpFamily::of(*other) == family)
}

/// The place at which the search for a name begins, among `count` places.
fn place(service: &ServiceName, family: IpFamily, count: u128) -> u128 {
    let digest = Sha256::digest(format!("{}/{}/{}", service.namespace, service.name, family.label()));
    let octets = digest.first_chunk::<16>().copied().unwrap_or_default();
    u128::from_be_bytes(octets).checked_rem(count).unwrap_or_default()
}

#[cfg(test)]
mod tests;
