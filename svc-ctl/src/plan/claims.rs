//! Who gets which frontend: service ports claim them, and an address that two claim goes to one by name (SEM-017).

use std::collections::BTreeMap;

use super::frontends::{Claim, plan_frontends};
use super::ids::Ids;
use super::policy::Policy;
use super::render::frontend_text;
use super::tables::{Frontend, Tables};
use crate::model::rejected::Rejected;
use crate::model::service::{Service, ServiceAddresses, ServicePort};
use crate::model::store::Snapshot;

/// A service port in one family, with the frontends that it got.
pub struct Wanted<'a> {
    pub service: &'a Service,
    pub port: &'a ServicePort,
    pub addresses: &'a ServiceAddresses,
    pub claims: Vec<Claim>,
}

impl Wanted<'_> {
    pub fn policy(&self) -> Policy {
        Policy {
            internal_local: self.service.internal_local,
            external_local: self.service.external_local,
            externally_accessible: self.port.is_externally_accessible(self.addresses),
        }
    }
}

/// Gives every frontend to one service port. In the order of names.
pub fn plan_claims<'a>(
    snapshot: &'a Snapshot,
    actual: &Tables,
    ids: &Ids,
    problems: &mut Vec<Rejected>,
) -> Vec<Wanted<'a>> {
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for service in snapshot.services.values() {
        for addresses in &service.families {
            for port in &service.ports {
                wanted.push(Wanted { service, port, addresses, claims: plan_frontends(port, addresses) });
            }
        }
    }
    let mut claimants: BTreeMap<Frontend, Vec<Claimant>> = BTreeMap::new();
    for (w, one) in wanted.iter().enumerate() {
        for (c, claim) in one.claims.iter().enumerate() {
            let claimant =
                Claimant { external: claim.external, created: one.service.created, holds: false, w, c };
            claimants.entry(claim.frontend).or_default().push(claimant);
        }
    }
    let is_alone = |frontend: &Frontend| claimants.get(frontend).is_some_and(|all| all.len() == 1);
    let holds = |one: &Wanted<'_>, frontend: &Frontend| {
        let id_at = |frontend: &Frontend| actual.frontends.get(frontend).map(|entry| entry.service);
        let Some(held_by) = id_at(frontend) else { return false };
        match ids.services().get(&one.service.key(one.port)) {
            Some(id) => *id == held_by,
            // After a restart nobody has an id yet: it is known by an address that only it claims.
            None => one.claims.iter().any(|c| is_alone(&c.frontend) && id_at(&c.frontend) == Some(held_by)),
        }
    };
    let mut owners: BTreeMap<Frontend, (usize, usize)> = BTreeMap::new();
    let mut losers: Vec<(bool, usize, usize, usize)> = Vec::new();
    for (frontend, all) in &claimants {
        let held =
            |claimant: &Claimant| Claimant { holds: holds(&wanted[claimant.w], frontend), ..*claimant };
        let owner = match all.as_slice() {
            [only] => *only,
            all => owner_of(&all.iter().map(held).collect::<Vec<_>>()).unwrap_or(all[0]),
        };
        owners.insert(*frontend, (owner.w, owner.c));
        // The same address twice in one Service is no quarrel.
        let others = all.iter().filter(|claimant| claimant.w != owner.w);
        losers.extend(others.map(|loser| (loser.external, loser.w, loser.c, owner.w)));
    }
    losers.sort_unstable();
    for (_, w, c, owner) in losers {
        problems.push(claimed_twice(&wanted[w], &wanted[w].claims[c], &wanted[owner]));
    }
    for (w, one) in wanted.iter_mut().enumerate() {
        let mut c = 0;
        one.claims.retain(|claim| (owners.get(&claim.frontend) == Some(&(w, c)), c += 1).0);
    }
    wanted
}

/// One claim to a frontend, by its place in the list of service ports: the order of names.
#[derive(Clone, Copy, Debug)]
struct Claimant {
    external: bool,
    created: Option<i64>,
    /// The kernel leads the frontend to this service port now.
    holds: bool,
    w: usize,
    c: usize,
}

/// Who gets a frontend: a cluster address goes before all, the older Service before the younger where both ages are
/// known, then who has it, then the first by name. Two rounds, because age does not order those without.
fn owner_of(claimants: &[Claimant]) -> Option<Claimant> {
    let internal = claimants.iter().any(|c| !c.external);
    let entitled = || claimants.iter().filter(|c| c.external != internal).copied();
    let oldest = entitled().filter(|c| c.created.is_some()).min_by_key(|c| (c.created, !c.holds, c.w, c.c));
    let ageless = entitled().filter(|c| c.created.is_none());
    oldest.into_iter().chain(ageless).min_by_key(|c| (!c.holds, c.w, c.c))
}

fn claimed_twice(loser: &Wanted<'_>, claim: &Claim, owner: &Wanted<'_>) -> Rejected {
    let frontend = frontend_text(&claim.frontend);
    let reason = format!("{frontend} already belongs to Service {}", owner.service.key(owner.port));
    Rejected::of_service(&loser.service.name, claim.field, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_017_age_goes_before_the_holder_only_where_both_ages_are_known() {
        let of = |created, holds, w| Claimant { external: true, created, holds, w, c: 0 };
        let owner = |all: &[Claimant]| owner_of(all).map(|c| c.w);
        assert_eq!(owner(&[of(Some(2), true, 0), of(Some(1), false, 1)]), Some(1));
        assert_eq!(owner(&[of(Some(1), false, 0), of(Some(1), true, 1)]), Some(1));
        assert_eq!(owner(&[of(Some(1), false, 0), of(None, true, 1)]), Some(1));
        assert_eq!(owner(&[of(None, false, 0), of(Some(1), true, 1)]), Some(1));
        assert_eq!(owner(&[of(None, false, 0), of(Some(1), false, 1)]), Some(0));
        // The holder is not the oldest of those with an age: it is out, and names decide between the other two.
        assert_eq!(owner(&[of(None, false, 0), of(Some(2), true, 1), of(Some(1), false, 2)]), Some(0));
        let cluster = Claimant { external: false, ..of(None, false, 1) };
        assert_eq!(owner(&[of(Some(1), true, 0), cluster]), Some(1));
    }
}
