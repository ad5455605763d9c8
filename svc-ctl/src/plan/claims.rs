//! Decides which service port gets a frontend: an address that two claim goes to one (SEM-017).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::frontends::{Claim, plan_frontends};
use super::tables::Frontend;
use super::tracked::repack;
use crate::model::name::{ServiceName, ServicePortKey};
use crate::model::service::{Service, ServiceAddresses, ServicePort};

/// A service port in one family: where it stands in its Service.
#[derive(Clone, Debug)]
pub struct PortOf {
    pub service: Arc<Service>,
    family: u8,
    port: u16,
}

impl PortOf {
    /// Every service port of a Service, in each of its families.
    pub fn all(service: &Arc<Service>) -> impl Iterator<Item = Self> {
        let ports = 0..service.ports.len() as u16;
        let families = 0..service.families.len() as u8;
        families.flat_map(move |family| {
            ports.clone().map(move |port| Self { service: Arc::clone(service), family, port })
        })
    }

    pub fn port(&self) -> &ServicePort {
        &self.service.ports[usize::from(self.port)]
    }

    pub fn addresses(&self) -> &ServiceAddresses {
        &self.service.families[usize::from(self.family)]
    }

    pub fn key(&self) -> ServicePortKey {
        self.service.key(self.port())
    }

    /// The frontends that it asks for.
    pub fn claims(&self) -> Vec<Claim> {
        plan_frontends(self.port(), self.addresses())
    }

    /// The same service port and family, though maybe of another version of the Service.
    pub fn is_same_port(&self, other: &Self) -> bool {
        self.addresses().family() == other.addresses().family() && self.key() == other.key()
    }

    fn rank(&self) -> (&ServiceName, u8, u16) {
        (&self.service.name, self.family, self.port)
    }
}

impl PartialEq for PortOf {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for PortOf {}

impl PartialOrd for PortOf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of names.
impl Ord for PortOf {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// One claim to a frontend. In the order of names.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Claimant {
    pub of: PortOf,
    /// The number of the claim within its service port.
    pub claim: u16,
    pub is_external: bool,
}

/// The service ports that claim a frontend: hardly ever more than one.
#[derive(Clone, Debug)]
enum Claimants {
    One(Claimant),
    Many(Box<[Claimant]>),
}

impl Claimants {
    fn as_slice(&self) -> &[Claimant] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// All claims of all Services.
#[derive(Clone, Debug, Default)]
pub struct Claims(BTreeMap<Frontend, Claimants>);

impl Claims {
    pub fn of(&self, frontend: &Frontend) -> &[Claimant] {
        self.0.get(frontend).map_or(&[], Claimants::as_slice)
    }

    pub fn repack(&mut self) {
        repack(&mut self.0);
    }

    /// Adds the claims of a Service.
    pub fn add(&mut self, service: &Arc<Service>) {
        for (frontend, claimant) in claimants(service) {
            let all = match self.0.remove(&frontend) {
                None => Claimants::One(claimant),
                Some(known) => {
                    let mut all = known.as_slice().to_vec();
                    all.push(claimant);
                    all.sort();
                    Claimants::Many(all.into())
                }
            };
            self.0.insert(frontend, all);
        }
    }

    /// Removes the claims of a Service.
    pub fn remove(&mut self, service: &Arc<Service>) {
        for (frontend, _) in claimants(service) {
            let Some(known) = self.0.remove(&frontend) else { continue };
            let mut rest = known.as_slice().to_vec();
            rest.retain(|one| one.of.service.name != service.name);
            if rest.len() > 1 {
                self.0.insert(frontend, Claimants::Many(rest.into()));
            } else if let Some(one) = rest.pop() {
                self.0.insert(frontend, Claimants::One(one));
            }
        }
    }

    /// Frontends of a Service that others claim too.
    pub fn contested<'a>(&'a self, service: &'a Arc<Service>) -> impl Iterator<Item = Frontend> + 'a {
        claimants(service).map(|(frontend, _)| frontend).filter(|f| self.of(f).len() > 1)
    }
}

fn claimants(service: &Arc<Service>) -> impl Iterator<Item = (Frontend, Claimant)> {
    PortOf::all(service).flat_map(|of| {
        let claims = of.claims().into_iter().enumerate();
        claims.map(move |(n, claim)| {
            (claim.frontend, Claimant { of: of.clone(), claim: n as u16, is_external: claim.external })
        })
    })
}

/// Decides which claimant gets a frontend. In this order: the claim of a cluster address, the older Service if both
/// ages are known, the present owner, the first by name. This takes two rounds, because Services without an age cannot
/// be ordered by age.
pub fn owner_of(claimants: &[Claimant], holds: impl Fn(&Claimant) -> bool) -> Option<&Claimant> {
    let is_internal = claimants.iter().any(|c| !c.is_external);
    let entitled = || claimants.iter().filter(|c| c.is_external != is_internal);
    let created = |c: &Claimant| c.of.service.created;
    let oldest = entitled().filter(|c| created(c).is_some()).min_by_key(|c| (created(c), !holds(c), *c));
    let ageless = entitled().filter(|c| created(c).is_none());
    oldest.into_iter().chain(ageless).min_by_key(|c| (!holds(c), *c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Service;

    #[test]
    fn sem_017_age_goes_before_the_holder_only_where_both_ages_are_known() {
        let of = |created: Option<i64>, w: u16| {
            let name = ServiceName::new("default", &format!("s{w}"));
            let service = Service {
                name,
                created,
                families: Vec::new(),
                ports: Vec::new(),
                internal_local: false,
                external_local: false,
                affinity: None,
                selection: None,
                serves_own_address: false,
                health_check_port: None,
                labels: Arc::default(),
            };
            let of = PortOf { service: Arc::new(service), family: 0, port: 0 };
            Claimant { of, claim: 0, is_external: true }
        };
        let owner = |all: &[(Claimant, bool)]| {
            let claimants: Vec<Claimant> = all.iter().map(|(c, _)| c.clone()).collect();
            let holds = |c: &Claimant| all.iter().any(|(other, holds)| other == c && *holds);
            owner_of(&claimants, holds).and_then(|c| claimants.iter().position(|other| other == c))
        };
        assert_eq!(owner(&[(of(Some(2), 0), true), (of(Some(1), 1), false)]), Some(1));
        assert_eq!(owner(&[(of(Some(1), 0), false), (of(Some(1), 1), true)]), Some(1));
        assert_eq!(owner(&[(of(Some(1), 0), false), (of(None, 1), true)]), Some(1));
        assert_eq!(owner(&[(of(None, 0), false), (of(Some(1), 1), true)]), Some(1));
        assert_eq!(owner(&[(of(None, 0), false), (of(Some(1), 1), false)]), Some(0));
        // The holder is not the oldest of those with an age: it is out, and names decide between the other two.
        let three = [(of(None, 0), false), (of(Some(2), 1), true), (of(Some(1), 2), false)];
        assert_eq!(owner(&three), Some(0));
        let cluster = Claimant { is_external: false, ..of(None, 1) };
        assert_eq!(owner(&[(of(Some(1), 0), true), (cluster, false)]), Some(1));
    }
}
