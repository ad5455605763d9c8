//! Load-balancer addresses in a cluster: one node gives them, elected by a Lease, and each node has a Lease with its
//! own addresses. Without pools the API server is not asked for anything.

mod allocator;
mod decide;
mod in_order;
mod leader;
mod namespaces;
mod node_lease;
mod view;
mod writes;

use std::future::pending;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Options;
use super::failure::Failure;
use crate::lb::AddressGiver;
use crate::lb::pulse::Presence;
use crate::lb::settings::LoadBalancerSettings;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::observe::ledger::Ledger;

/// The namespace of the Leases. It is the same for a daemon in a pod and for one that the node's own supervisor starts, and the rights of
/// the chart concern it alone.
const NAMESPACE: &str = "svc-leases";
/// Owner of the fields that svc writes.
const MANAGER: &str = "svc";
/// The remedy for a request that is forbidden, or for a missing namespace.
const RIGHTS: &str = "set rbac.loadBalancer: true in the values of the chart, which makes the namespace svc-leases and gives the rights";
/// An answer that takes longer is of no use to a Lease.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Runs for ever.
pub async fn run(client: &Client, options: &Options, mut giver: AddressGiver, ledger: &Ledger) {
    // If a part of the section is refused, addresses of its pools would be taken back.
    let is_usable = |settings: &LoadBalancerSettings| {
        settings.is_known && settings.is_whole && !settings.pools.is_empty()
    };
    if giver.settings.wait_for(is_usable).await.is_err() {
        return pending().await;
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let (granted, acts_until) = watch::channel(None);
    let node = options.node_name.as_str();
    tokio::join!(
        node_lease::renew(client, &leases, node, giver.presence.clone(), ledger),
        node_lease::follow(&leases, node, &giver.members, ledger),
        leader::campaign(&leases, node, &granted, ledger),
        allocator::run(client, options, giver.clone(), acts_until, ledger),
    );
}

async fn answer<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match timeout(ANSWER_WITHIN, request).await {
        Ok(answer) => answer.map_err(|error| Failure::with_cure(&error, RIGHTS)),
        Err(_) => Err(Failure::of_text("no answer".to_owned())),
    }
}

fn complain(ledger: &Ledger, origin: Origin, field: &str, failure: Option<&Failure>) {
    let complaint =
        |failure: &Failure| Complaint::new(Kind::Source, "Kubernetes API", field, failure.text.clone());
    ledger.set(origin, failure.map(complaint).into_iter().collect());
}

fn time() -> MicroTime {
    MicroTime(Timestamp::now())
}
