//! Complaints as Events, at the API server.

use serde_json::Value;
use svc_ctl::model::complaint::{Complaint, Kind, Origin};
use svc_ctl::model::name::ServiceName;

use super::api::StandIn;
use super::{Follower, api_with, service};

fn complain(follower: &Follower, service: &ServiceName, kinds: &[Kind]) {
    let complaints = kinds.iter().map(|kind| Complaint::of_service(*kind, service, "", "port 7777/SCTP"));
    follower.ledger.set(Origin::Limits(service.clone()), complaints.collect());
}

fn text(event: &Value, field: &str) -> String {
    event[field].as_str().unwrap_or_default().to_owned()
}

/// The Events other than that of the daemon's start.
fn published(api: &StandIn) -> Vec<Value> {
    api.created().into_iter().filter(|event| event["reason"] != "Starting").collect()
}

fn reasons(api: &StandIn) -> Vec<String> {
    let mut reasons: Vec<String> = published(api).iter().map(|event| text(event, "reason")).collect();
    reasons.sort();
    reasons
}

#[tokio::test]
async fn an_sctp_limitation_is_one_event_on_its_service_for_all_nodes_sem_010() {
    let api = api_with(&["sctp"]).await;
    let sctp = ServiceName::new("default", "sctp");
    let mut one = Follower::start(&api, |_| {}).await;
    let mut other = Follower::start(&api, |o| o.node_name = "other-node".to_owned()).await;
    for follower in [&one, &other] {
        complain(follower, &sctp, &[Kind::HealthPort, Kind::SctpFromNodes, Kind::SctpFragments]);
    }
    let twice = "FailedToStartServiceHealthcheck";
    let expected = [twice, twice, "SctpFragmentsDropped", "SctpFromNodesNotServed"];
    one.until("all have arrived", |_| reasons(&api) == expected).await;
    other.until_services(&["sctp"]).await;
    for event in published(&api) {
        let of = &event["regarding"];
        assert_eq!([&of["kind"], &of["namespace"], &of["name"]], ["Service", "default", "sctp"]);
        // `kubectl describe service` selects Events by this uid.
        assert_eq!(of["uid"], "uid-2");
        assert_eq!([&event["type"], &event["metadata"]["namespace"]], ["Warning", "default"]);
        assert_eq!(text(&event, "note"), "port 7777/SCTP");
    }
}

#[tokio::test]
async fn an_api_server_that_rejects_events_delays_them_and_loses_none() {
    let api = api_with(&["a"]).await;
    api.refuse("events", Some(503));
    let a = ServiceName::new("default", "a");
    let mut follower = Follower::start(&api, |_| {}).await;
    complain(&follower, &a, &[Kind::SctpFragments]);
    follower.until_services(&["a"]).await;
    complain(&follower, &a, &[Kind::SctpFragments, Kind::HealthPort]);
    follower.ledger.set(Origin::Host, vec![Complaint::new(Kind::Host, "bpffs", "", "not mounted")]);
    api.refuse("events", None);
    let expected = ["FailedToStartServiceHealthcheck", "HostNotReady", "SctpFragmentsDropped"];
    follower.until("all have arrived", |_| reasons(&api) == expected).await;
    let created = published(&api);
    assert_eq!(text(&created[0], "reason"), "SctpFragmentsDropped", "the first is said first");
    let of_node =
        created.iter().find(|event| event["regarding"]["kind"] == "Node").expect("one is of the Node");
    assert_eq!([&of_node["regarding"]["uid"], &of_node["metadata"]["namespace"]], ["test-node", "default"]);
    assert_eq!(text(of_node, "note"), "bpffs: not mounted");
}

#[tokio::test]
async fn a_recreated_service_gets_the_event_again_and_a_flapping_complaint_is_sent_once() {
    let api = api_with(&["a"]).await;
    let a = ServiceName::new("default", "a");
    let mut follower = Follower::start(&api, |_| {}).await;
    for kinds in [&[Kind::NoRoom][..], &[], &[Kind::NoRoom], &[], &[Kind::NoRoom, Kind::HealthPort]] {
        complain(&follower, &a, kinds);
        follower.until("the outbox has seen it", |_| kinds.is_empty() || !published(&api).is_empty()).await;
    }
    follower.until("the last one is published", |_| published(&api).len() >= 2).await;
    assert_eq!(reasons(&api), ["FailedToStartServiceHealthcheck", "TableFull"]);
    api.delete("services", "default/a");
    complain(&follower, &a, &[]);
    follower.until_services(&[]).await;
    api.apply(&service("a", 1));
    complain(&follower, &a, &[Kind::NoRoom]);
    follower.until("the new Service gets the Event", |_| published(&api).len() >= 3).await;
    let uids: Vec<Value> = published(&api).iter().map(|event| event["regarding"]["uid"].clone()).collect();
    assert_eq!(uids, ["uid-2", "uid-2", "uid-4"]);
}

#[tokio::test]
async fn every_start_is_an_event_on_the_node_also_if_the_server_is_busy_at_first_sem_252() {
    let api = api_with(&["a"]).await;
    api.refuse("events", Some(429));
    let mut first = Follower::start(&api, |_| {}).await;
    first.until_services(&["a"]).await;
    assert!(api.created().is_empty());
    api.refuse("events", None);
    first.until("the start is said", |_| api.created().len() == 1).await;
    let mut second = Follower::start(&api, |_| {}).await;
    second.until("the second start is said", |_| api.created().len() == 2).await;
    for event in api.created() {
        assert_eq!([&event["type"], &event["reason"]], ["Normal", "Starting"]);
        let of = &event["regarding"];
        // `kubectl describe node` asks for the Events of this uid.
        assert_eq!([&of["kind"], &of["name"], &of["uid"]], ["Node", "test-node", "test-node"]);
        assert!(text(&event, "note").contains(env!("CARGO_PKG_VERSION")));
    }
}
