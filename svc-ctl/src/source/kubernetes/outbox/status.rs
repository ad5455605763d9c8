//! Writes the load-balancer status of a Service, and an Event about it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServiceStatus};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};

use super::event::about_service;
use crate::source::load_balancer::{with_addresses, written};

/// The type of svc's condition.
pub const CONDITION: &str = "svc/LoadBalancerIP";
/// Owner of the fields, apart from those of the Leases.
const MANAGER: &str = "svc-allocator";

/// The addresses of a Service, and the reason. Without a verdict svc writes no condition.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    pub addresses: Vec<IpAddr>,
    pub verdict: Option<Verdict>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub is_satisfied: bool,
    /// One word.
    pub reason: &'static str,
    pub text: String,
}

/// The status, if the Service has another one. Applying it leaves other owners' conditions alone.
pub fn change(service: &Service, outcome: &Outcome) -> Option<Service> {
    let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known = conditions.into_iter().find(|condition| condition.type_ == CONDITION);
    let status = |is_satisfied| if is_satisfied { "True" } else { "False" };
    let is_published = match (&outcome.verdict, known) {
        (None, None) => true,
        (Some(new), Some(known)) => {
            known.status == status(new.is_satisfied)
                && known.reason == new.reason
                && known.message == new.text
        }
        _ => false,
    };
    if is_published && is_same(&written(service), &outcome.addresses) {
        return None;
    }
    let condition = outcome.verdict.as_ref().map(|verdict| Condition {
        type_: CONDITION.to_owned(),
        status: status(verdict.is_satisfied).to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.text.clone(),
        last_transition_time: known
            .filter(|known| known.status == status(verdict.is_satisfied))
            .map_or_else(|| Time(Timestamp::now()), |known| known.last_transition_time.clone()),
        observed_generation: None,
    });
    let known = &service.metadata;
    let mut changed = Service {
        metadata: ObjectMeta {
            name: known.name.clone(),
            namespace: known.namespace.clone(),
            // The version keeps the write from replacing a later change of others.
            resource_version: known.resource_version.clone(),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(ServiceStatus { conditions: condition.map(|c| vec![c]), ..ServiceStatus::default() }),
    };
    if outcome.verdict.is_some() {
        with_addresses(&mut changed, &outcome.addresses);
    }
    Some(changed)
}

/// Other writers may use another order of addresses.
fn is_same(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
}

/// Writes a status of [`change`]. Returns the new version of the Service.
pub async fn write(client: &Client, changed: &Service) -> kube::Result<Option<String>> {
    let (namespace, name) = (changed.metadata.namespace.clone(), changed.metadata.name.clone());
    let services = Api::<Service>::namespaced(client.clone(), &namespace.unwrap_or_default());
    let params = PatchParams::apply(MANAGER).force();
    let written = services.patch_status(&name.unwrap_or_default(), &params, &Patch::Apply(changed)).await;
    written.map(|service| service.metadata.resource_version)
}

/// An Event about the addresses that the Service got or lost, like MetalLB's. `None` if they are the same.
pub fn event(service: &Service, addresses: &[IpAddr], node: &str) -> Option<Event> {
    let before = written(service);
    if is_same(&before, addresses) {
        return None;
    }
    let list =
        |all: &[IpAddr]| all.iter().map(|ip| format!("{:?}", ip.to_string())).collect::<Vec<_>>().join(" ");
    let (reason, note) = match addresses {
        [] => ("ClearAssignment", format!("the address [{}] is given up", list(&before))),
        _ => ("IPAllocated", format!("Assigned IP [{}]", list(addresses))),
    };
    Some(about_service(&service.metadata, reason, &note, node, Timestamp::now()))
}

pub async fn publish(client: &Client, event: &Event) -> kube::Result<Event> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    Api::<Event>::namespaced(client.clone(), namespace).create(&PostParams::default(), event).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_with_the_same_addresses_in_another_order_is_left_as_it_is() {
        let yaml = "{metadata: {name: web}, status: {loadBalancer: {ingress: [{ip: '2001:db8::1'}, {ip: 192.0.2.1}]},
            conditions: [{type: svc/LoadBalancerIP, status: 'True', reason: Assigned, message: both, lastTransitionTime: '2026-01-01T00:00:00Z'}]}}";
        let service: Service = serde_yaml_ng::from_str(yaml).unwrap();
        let outcome = |addresses: &[&str]| Outcome {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            verdict: Some(Verdict { is_satisfied: true, reason: "Assigned", text: "both".to_owned() }),
        };
        assert_eq!(change(&service, &outcome(&["192.0.2.1", "2001:db8::1"])), None);
        assert!(change(&service, &outcome(&["192.0.2.1"])).is_some());
        assert!(change(&service, &outcome(&["192.0.2.1", "2001:db8::2"])).is_some());
    }
}
