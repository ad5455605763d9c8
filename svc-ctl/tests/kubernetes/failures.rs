//! Faults of the API server, and the source's reaction.

use std::time::{Duration, Instant};

use svc_ctl::model::complaint::{Kind, Origin};

use super::api::Fault;
use super::{Follower, NODE, api_with, service};

/// The pauses between failing requests begin with 0.2 s and double: about four of them fit into this time.
const A_WHILE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn watches_that_end_at_once_are_followed_by_growing_pauses() {
    for streaming_lists in [false, true] {
        let api = api_with(&["a"]).await;
        let mut follower = Follower::start(&api, |o| o.streaming_lists = streaming_lists).await;
        follower.until_services(&["a"]).await;
        api.end_watches("services", Some(""));
        let before = api.requests("services").len();
        tokio::time::sleep(A_WHILE).await;
        let requests = api.requests("services").len() - before;
        assert!((2..=6).contains(&requests), "{requests} requests");
        api.apply(&service("b", 2));
        api.end_watches("services", None);
        follower.until_services(&["a", "b"]).await;
    }
}

#[tokio::test]
async fn streamed_lists_that_end_at_once_are_followed_by_growing_pauses() {
    let api = api_with(&["a"]).await;
    api.end_watches("services", Some(""));
    let mut follower = Follower::start(&api, |o| o.streaming_lists = true).await;
    tokio::time::sleep(A_WHILE).await;
    let requests = api.requests("services").len();
    assert!((2..=6).contains(&requests), "{requests} requests");
    api.end_watches("services", None);
    follower.until_services(&["a"]).await;
}

#[tokio::test]
async fn a_list_comes_from_the_cache_of_the_api_server() {
    let api = api_with(&["a"]).await;
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_services(&["a"]).await;
    for plural in ["services", "endpointslices", "nodes"] {
        let list = &api.requests(plural)[0];
        assert!(list.contains("resourceVersion=0") && !list.contains("limit"), "{plural}: {list}");
    }
}

const UNREADABLE: &str = "{apiVersion: v1, kind: Service, metadata: {name: odd, namespace: shop},
    spec: {clusterIP: 10.96.0.9, ports: [{port: eighty}]}}";

#[tokio::test]
async fn an_object_that_cannot_be_parsed_does_not_affect_others() {
    for streaming_lists in [false, true] {
        let api = api_with(&["a"]).await;
        api.apply(UNREADABLE);
        let mut follower = Follower::start(&api, |o| o.streaming_lists = streaming_lists).await;
        follower.until_services(&["a"]).await;
        follower.until_complaint("Service shop/odd: spec.ports[0].port: cannot be read: ").await;
        api.apply(&service("b", 2));
        follower.until_services(&["a", "b"]).await;
        // One watch shows the invalid object, another one shows that it is valid again.
        api.apply(&UNREADABLE.replace("odd", "other"));
        follower.until_complaint("Service shop/other").await;
        assert_eq!(follower.complaints().len(), 2);
        api.apply(&service("odd", 9).replace("default", "shop"));
        follower.until_services(&["a", "b", "odd"]).await;
        api.delete("services", "shop/other");
        follower.until_no_complaint().await;
    }
}

#[tokio::test]
async fn services_are_served_while_the_node_may_not_be_listed() {
    for code in [401, 403, 404] {
        let api = api_with(&["a"]).await;
        api.refuse("nodes", Some(code));
        let mut follower = Follower::start(&api, |_| {}).await;
        follower.until_services(&["a"]).await;
        follower.until_complaint("Node test-node: stand-in says 40").await;
        assert_eq!(follower.complaints(), [], "once is enough");
        api.refuse("nodes", None);
        follower.until_no_complaint().await;
    }
}

#[tokio::test]
async fn rights_on_the_node_that_are_taken_away_and_given_back_leave_no_complaint() {
    let api = api_with(&["a"]).await;
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_services(&["a"]).await;
    api.refuse("nodes", Some(403));
    api.break_watches();
    follower.until_complaint("Node test-node: stand-in says 403").await;
    api.refuse("nodes", None);
    follower.until_no_complaint().await;
    assert_eq!(api.requests("nodes").iter().filter(|r| !r.contains("watch")).count(), 1, "no second list");
}

#[tokio::test]
async fn sem_220_a_missing_node_is_reported_until_it_exists() {
    let api = api_with(&["a"]).await;
    api.delete("nodes", "test-node");
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_services(&["a"]).await;
    follower
        .until_complaint("Node test-node: there is no Node of this name: Services are served without")
        .await;
    assert!(follower.ledger.get(&Origin::ThisNode).iter().all(|c| c.kind == Kind::Node));
    api.apply(NODE);
    follower.until_no_complaint().await;
    api.delete("nodes", "test-node");
    follower.until_complaint("Node test-node: there is no Node of this name").await;
}

#[tokio::test]
async fn failures_of_the_server_are_reported_and_requests_retried() {
    let api = api_with(&["a"]).await;
    api.fail("services", &[Fault::List(500), Fault::List(503), Fault::Watch(500)]);
    api.fail("endpointslices", &[Fault::List(500)]);
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_complaint("stand-in says 50").await;
    follower.until_services(&["a"]).await;
    api.apply(&service("b", 2));
    follower.until_services(&["a", "b"]).await;
    follower.until_no_complaint().await;
    assert_eq!(api.faults_left(), 0);
}

/// A server that comes back is healthy when it refuses a request, though the pause has grown in the meantime.
#[tokio::test]
async fn a_refused_request_is_changed_at_once_even_after_a_long_outage() {
    let api = api_with(&["a"]).await;
    let away = [500, 500, 500, 500].map(Fault::Watch);
    api.fail("services", &[&away[..], &[Fault::Watch(422)]].concat());
    let mut follower = Follower::start(&api, |o| o.streaming_lists = true).await;
    follower.until("the server refuses", |_| api.requests("services").len() == 5).await;
    let refused = Instant::now();
    follower.until_services(&["a"]).await;
    // The fifth pause would be at least 3.2 s.
    assert!(refused.elapsed() < Duration::from_millis(2500), "{:?}", refused.elapsed());
}

#[tokio::test]
async fn an_older_server_without_the_field_selector_is_asked_without_it() {
    let api = api_with(&["a"]).await;
    api.fail("services", &[Fault::List(400)]);
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_services(&["a"]).await;
    let requests = api.requests("services");
    assert!(requests[0].contains("fieldSelector") && !requests[1].contains("fieldSelector"), "{requests:?}");
}
