//! Shows which node answers for each address: the report, the metrics, and complaints about foreign hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Announcer, Inputs};
use crate::lb::claim::{Claim, mac_text};
use crate::lb::report::{Count, Report, Row};
use crate::lb::wanted::Wanted;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::node::Interface;

impl Announcer {
    pub(super) fn row(
        &self,
        address: IpAddr,
        wanted: &Wanted,
        interface: Option<&Interface>,
        candidates: BTreeSet<String>,
    ) -> Row {
        let claim = interface.and_then(|interface| self.claims.get(&(address, interface.index)));
        Row {
            address,
            services: wanted.services.iter().map(ToString::to_string).collect(),
            interface: interface.map(|interface| interface.name.clone()).unwrap_or_default(),
            owner: claim.and_then(Claim::owner).map(str::to_owned),
            since_unix_ms: self.began_unix_ms + claim.map_or(0, Claim::since),
            why: match (interface, claim) {
                (None, _) => "no interface of this node has its network".to_owned(),
                _ if !wanted.has_endpoint => "no endpoint is ready".to_owned(),
                (_, Some(claim)) => claim.why().to_owned(),
                (_, None) => String::new(),
            },
            candidates,
        }
    }

    /// Complains of addresses that a foreign host has.
    pub(super) fn complain_of_foreign_hosts(&mut self) {
        let now = self.now();
        let conflicts = self.claims.iter().filter_map(|((address, _), claim)| {
            let reason = match (claim.conflict(), claim.intruder(now)) {
                (Some(mac), _) => {
                    format!(
                        "{} has {address} and is no node of the cluster: it is not announced",
                        mac_text(mac)
                    )
                }
                (None, Some(mac)) => format!(
                    "{} announces {address} and is no node of the cluster: clients reach it or this node",
                    mac_text(mac)
                ),
                (None, None) => return None,
            };
            Some((*address, reason))
        });
        let complaints = (
            conflicts.collect::<BTreeMap<IpAddr, String>>(),
            self.failure.clone().or_else(|| self.deaf.clone()),
        );
        if Some(&complaints) == self.complaints.as_ref() {
            return;
        }
        let list = complaints.0.iter().flat_map(|(address, reason)| {
            let services =
                self.demand.addresses().get(address).into_iter().flat_map(|wanted| &wanted.services);
            services.map(|service| {
                Complaint::of_service(Kind::AddressInUse, service, "status.loadBalancer", reason.clone())
            })
        });
        complain(&self.inputs, list.collect(), complaints.1.as_deref());
        self.complaints = Some(complaints);
    }

    pub(super) fn count(&self, report: &Report) {
        let conflicts = self.claims.values().filter(|claim| claim.conflict().is_some()).count() as u64;
        let of = |is: &dyn Fn(Option<&str>) -> bool| {
            report.addresses.iter().filter(|row| is(row.owner.as_deref())).count() as u64
        };
        let node = self.inputs.node.as_str();
        let count = Count {
            here: of(&|owner| owner == Some(node)),
            elsewhere: of(&|owner| owner.is_some_and(|owner| owner != node)),
            unanswered: of(&|owner| owner.is_none()).saturating_sub(conflicts),
            conflicts,
            taken: self.taken,
            given_up: self.given_up,
        };
        self.inputs.count.send_replace(count);
    }

    pub(super) fn show(&mut self, report: Report) {
        if self.shown.as_ref() == Some(&report) {
            return;
        }
        if let Err(error) = report.write(&self.inputs.run_dir) {
            tracing::warn!(error = format!("{error:#}"), "svc-ctl lb shows an old state");
        }
        self.shown = Some(report);
    }
}

/// Sets all complaints of the announcer.
pub(super) fn complain(inputs: &Inputs, mut complaints: Vec<Complaint>, failure: Option<&str>) {
    let of_node = |reason: &str| {
        Complaint::new(Kind::Host, format!("Node {}", inputs.node), "loadBalancer", reason.to_owned())
    };
    complaints.extend(inputs.shortcoming().into_iter().chain(failure).map(of_node));
    inputs.ledger.set(Origin::Announced, complaints);
}
