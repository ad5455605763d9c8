//! The statuses that Services should have. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use crate::lb::allocate::{Foreign, Given, Order, Reason, allocate};
use crate::lb::settings::LoadBalancerSettings;
use crate::lb::usage::PoolsUse;
use crate::model::complaint::{Complaint, Kind};
use crate::model::name::ServiceName;
use crate::source::kubernetes::outbox::status::{CONDITION, Outcome, Verdict};
use crate::source::load_balancer::{request, unchanged, written};

/// All Services by name.
pub type Services = BTreeMap<ServiceName, Service>;

/// The outcome for each Service with a load balancer, and the complaints.
#[derive(Debug, Default)]
pub struct Decision {
    pub outcomes: BTreeMap<ServiceName, Outcome>,
    /// The addresses that the Services have.
    pub current: BTreeMap<ServiceName, Vec<IpAddr>>,
    pub complaints: Vec<Complaint>,
    pub usage: PoolsUse,
}

/// `just_written` are statuses that the Services do not show yet.
pub fn decide(
    services: &Services,
    just_written: &BTreeMap<ServiceName, Vec<IpAddr>>,
    nodes: &BTreeMap<IpAddr, String>,
    service_cidrs: &[IpNet],
    settings: &LoadBalancerSettings,
) -> Decision {
    let (pools, refused) = settings.pools.without(nodes, service_cidrs);
    let mut decision = Decision::default();
    decision.complaints.extend(refused.into_iter().map(|(name, error)| {
        let object = format!("loadBalancer pool {name}");
        Complaint::new(Kind::Configuration, object, error.field(), error.to_string())
    }));
    let refuse = |name: &ServiceName, field: &str, reason: String| {
        Complaint::of_service(Kind::NoAddress, name, field, reason)
    };
    let (mut requests, mut unclear) = (Vec::new(), BTreeMap::new());
    let (mut previous, mut foreign) = (Given::new(), Foreign::new());
    for (name, service) in services {
        let before = just_written.get(name).cloned().unwrap_or_else(|| written(service));
        decision.current.insert(name.clone(), before.clone());
        if settings.keeps_unknown && before.iter().any(|ip| pools.of(*ip).is_none()) {
            // The address may be of the pool that cannot be used.
            foreign.extend(before.into_iter().map(|ip| (ip, name.clone())));
            continue;
        }
        match request(service, settings) {
            Ok(Some(request)) => {
                previous.insert(name.clone(), before);
                requests.push(request);
            }
            Ok(None) if has_condition(service) => {
                decision.outcomes.insert(name.clone(), Outcome::default());
            }
            Ok(None) => foreign.extend(before.into_iter().map(|ip| (ip, name.clone()))),
            Err((field, reason)) => {
                let text = format!("{field}: {reason}");
                let verdict = Verdict { is_satisfied: false, reason: "Refused", text };
                unclear.insert(name.clone(), verdict);
                // The Service keeps its addresses until its request is clear, and no other Service gets them.
                requests.push(unchanged(service, &before));
                previous.insert(name.clone(), before);
                decision.complaints.push(refuse(name, &field, reason));
            }
        }
    }
    let allocation = allocate(&requests, &pools, &previous, &foreign, Order::Lowest);
    for request in &requests {
        let name = &request.service;
        let addresses = allocation.given.get(name).cloned().unwrap_or_default();
        let verdict = match (unclear.get(name), allocation.reasons.get(name)) {
            (Some(verdict), _) => verdict.clone(),
            (None, None) => Verdict { is_satisfied: true, reason: "Assigned", text: texts(&addresses) },
            (None, Some(reason)) => {
                decision.complaints.push(refuse(name, "status.loadBalancer", reason.to_string()));
                Verdict { is_satisfied: false, reason: word(reason), text: reason.to_string() }
            }
        };
        decision.outcomes.insert(name.clone(), Outcome { addresses, verdict: Some(verdict) });
    }
    let ours = decision.outcomes.values().flat_map(|outcome| &outcome.addresses);
    let in_use = ours.chain(foreign.keys()).copied().collect();
    decision.usage = PoolsUse::of(&pools, &allocation, &in_use);
    decision.usage.refused += unclear.len() as u64;
    decision
}

/// svc has written the Service's status.
fn has_condition(service: &Service) -> bool {
    let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == CONDITION)
}

fn texts(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The condition's reason.
const fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::NoPool => "NoPool",
        Reason::UnknownPool(_) => "UnknownPool",
        Reason::NotAdmitted(_) => "NotAdmitted",
        Reason::Exhausted(_) => "Exhausted",
        Reason::NotInPool(_) => "NotInPool",
        Reason::AnotherPool(_) => "AnotherPool",
        Reason::FamilyUnsatisfied(_) | Reason::NoPair => "FamilyUnsatisfied",
        Reason::Taken(..) => "Taken",
        Reason::Disabled(_) => "PoolDisabled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(yamls: &[&str]) -> Services {
        let parse = |yaml: &&str| serde_yaml_ng::from_str::<Service>(yaml).unwrap();
        let name = |s: &Service| ServiceName::new("shop", s.metadata.name.as_deref().unwrap());
        yamls.iter().map(parse).map(|service| (name(&service), service)).collect()
    }

    fn decided(services: &Services, written: &[(&str, &str)], pool: &str) -> Vec<String> {
        let section = format!("{{pools: [{{name: a, addresses: ['{pool}']}}]}}");
        let settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(&section).unwrap()).0;
        let written = written.iter().map(|(n, ip)| (ServiceName::new("shop", n), vec![ip.parse().unwrap()]));
        let decision = decide(services, &written.collect(), &BTreeMap::new(), &[], &settings);
        let line = |(name, outcome): (&ServiceName, &Outcome)| {
            let verdict = outcome.verdict.as_ref().map_or("cleared", |verdict| verdict.reason);
            format!("{} {} {verdict}", name.name, texts(&outcome.addresses))
        };
        decision.outcomes.iter().map(line).collect()
    }

    const SPEC: &str = "spec: {type: LoadBalancer, clusterIP: 10.0.0.1}";

    #[test]
    fn sem_305_a_service_keeps_its_address_and_one_without_room_says_so() {
        let meta = |name: &str, second: u8| {
            format!(
                "metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-01-01T00:00:0{second}Z'}}"
            )
        };
        let has = "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}";
        let new = format!("{{{}, {SPEC}, {has}}}", meta("new", 9));
        let old = format!("{{{}, {SPEC}}}", meta("old", 1));
        let all = services(&[&new, &old]);
        assert_eq!(decided(&all, &[], "192.0.2.0/31"), ["new 192.0.2.1 Assigned", "old 192.0.2.0 Assigned"]);
        assert_eq!(decided(&all, &[], "192.0.2.1/32"), ["new 192.0.2.1 Assigned", "old  Exhausted"]);
        // An address that is on its way to a status counts as given.
        assert_eq!(
            decided(&all, &[("old", "192.0.2.1")], "192.0.2.1/32"),
            ["new  Exhausted", "old 192.0.2.1 Assigned"]
        );
        // A pool that went away takes its address with it.
        assert_eq!(
            decided(&all, &[], "198.51.100.0/31"),
            ["new 198.51.100.1 Assigned", "old 198.51.100.0 Assigned"]
        );
    }

    #[test]
    fn sem_301_a_service_of_others_is_left_alone_and_one_that_was_ours_is_cleared() {
        let has = "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}";
        let theirs = format!(
            "{{metadata: {{name: theirs, namespace: shop}}, spec: {{type: LoadBalancer, loadBalancerClass: a/b}}, {has}}}}}"
        );
        let ours = format!(
            "{{metadata: {{name: ours, namespace: shop}}, spec: {{type: ClusterIP}}, {has}, conditions: [{{type: svc/LoadBalancerIP, status: 'True', reason: Assigned, message: '', lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}}}"
        );
        assert_eq!(decided(&services(&[&theirs, &ours]), &[], "192.0.2.0/31"), ["ours  cleared"]);
        let unclear = format!(
            "{{metadata: {{name: unclear, namespace: shop}}, spec: {{type: LoadBalancer, loadBalancerIP: web}}, {has}}}}}"
        );
        let other = format!("{{metadata: {{name: other, namespace: shop}}, {SPEC}}}");
        let all = services(&[&unclear, &other]);
        assert_eq!(decided(&all, &[], "192.0.2.1/32"), ["other  Exhausted", "unclear 192.0.2.1 Refused"]);
    }

    #[test]
    fn an_address_in_the_status_of_a_service_of_another_class_goes_to_no_other_service() {
        let theirs = "{metadata: {name: theirs, namespace: shop}, spec: {type: LoadBalancer, loadBalancerClass: a/b}, status: {loadBalancer: {ingress: [{ip: 192.0.2.0}]}}}";
        let new = format!("{{metadata: {{name: new, namespace: shop}}, {SPEC}}}");
        let asks = format!(
            "{{metadata: {{name: asks, namespace: shop, annotations: {{svc/load-balancer-ips: 192.0.2.0}}}}, {SPEC}}}"
        );
        assert_eq!(decided(&services(&[theirs, &new]), &[], "192.0.2.0/31"), ["new 192.0.2.1 Assigned"]);
        assert_eq!(decided(&services(&[theirs, &new]), &[], "192.0.2.0/32"), ["new  Exhausted"]);
        assert_eq!(decided(&services(&[theirs, &asks]), &[], "192.0.2.0/31"), ["asks  Taken"]);
        let settings = LoadBalancerSettings::read(
            serde_yaml_ng::from_str("{pools: [{name: a, addresses: [192.0.2.0/31]}]}").unwrap(),
        );
        let decision =
            decide(&services(&[theirs, &new]), &BTreeMap::new(), &BTreeMap::new(), &[], &settings.0);
        assert_eq!(decision.usage.pools[0].in_use, 2, "a pool is as full as others make it, too");
    }

    #[test]
    fn a_service_with_an_unclear_request_keeps_what_was_written_last_and_its_sharing_key() {
        let shares = |name: &str, ip: &str, port: u16, has: &str| {
            format!(
                "{{metadata: {{name: {name}, namespace: shop, annotations: {{svc/load-balancer-sharing: k}}}}, spec: {{type: LoadBalancer, clusterIP: 10.0.0.1, {ip} ports: [{{port: {port}}}]}}, status: {{loadBalancer: {{ingress: [{has}]}}}}}}"
            )
        };
        let unclear = shares("unclear", "loadBalancerIP: web,", 80, "{ip: 192.0.2.1}");
        let clear = shares("clear", "", 443, "{ip: 192.0.2.1}");
        assert_eq!(
            decided(&services(&[&unclear, &clear]), &[], "192.0.2.1/32"),
            ["clear 192.0.2.1 Assigned", "unclear 192.0.2.1 Refused"]
        );
        let late = shares("late", "loadBalancerIP: web,", 80, "");
        assert_eq!(
            decided(&services(&[&late]), &[("late", "192.0.2.1")], "192.0.2.1/32"),
            ["late 192.0.2.1 Refused"]
        );
    }
}
