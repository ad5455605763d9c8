//! Complaints of aliases that lead in a circle: clients get no data, and the owners of the Services should know.

use std::collections::BTreeSet;

use super::lookup::Found;
use super::subject::{Subject, subject_of};
use super::zone::Zone;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::name::ServiceName;
use crate::observe::ledger::Ledger;

/// Services with an alias that leads in a circle. The ledger has complaints about the same Services.
#[derive(Debug, Default)]
pub struct Circles(BTreeSet<ServiceName>);

impl Circles {
    /// Looks again at the Services that changed, and at those that were in a circle.
    pub fn update(&mut self, zone: &Zone, changed: &BTreeSet<ServiceName>, ledger: &Ledger) {
        for name in changed.union(&self.0.clone()) {
            let complaints = circle(zone, name).map(|circle| complaint(name, &circle));
            let is_known = match complaints.is_some() {
                true => !self.0.insert(name.clone()),
                false => !self.0.remove(name),
            };
            if complaints.is_some() || !is_known {
                ledger.set(Origin::Alias(name.clone()), complaints.into_iter().collect());
            }
        }
    }
}

/// Every alias that leads in a circle.
pub fn circles(zone: &Zone) -> Vec<Complaint> {
    let names = zone.world.named.services.keys();
    names.filter_map(|name| Some(complaint(name, &circle(zone, name)?))).collect()
}

fn complaint(name: &ServiceName, circle: &str) -> Complaint {
    let reason = format!("an alias that leads in a circle: {circle}");
    Complaint::of_service(Kind::Refused, name, "spec.externalName", reason)
}

/// The names of the circle that a Service's alias leads to, if it does.
fn circle(zone: &Zone, name: &ServiceName) -> Option<String> {
    let mut subject_name = None;
    let mut seen: Vec<String> = vec![name.to_string()];
    loop {
        let subject = match &subject_name {
            None => Subject::Service(name.into()),
            Some(target) => subject_of(target, zone.domain_labels()),
        };
        let Found::Alias(alias) = zone.find(subject) else { return None };
        let target = super::records::parse_alias(alias)?;
        if !zone.settings.domain.zone_of(&target) {
            return None;
        }
        let Subject::Service(next) = subject_of(&target, zone.domain_labels()) else { return None };
        let next = format!("{}/{}", next.namespace, next.name);
        let is_seen = seen.contains(&next);
        seen.push(next);
        if is_seen {
            return Some(seen.join(" -> "));
        }
        subject_name = Some(target);
    }
}
