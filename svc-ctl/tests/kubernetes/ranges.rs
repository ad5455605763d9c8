//! Ranges of ClusterIPs, read from the API server.

use svc_ctl::model::complaint::{Kind, Origin};
use tokio::sync::watch;

use super::{Follower, api_with};

fn range(name: &str, cidr: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {{name: {name}}}, spec: {{cidrs: ['{cidr}']}}}}"
    )
}

#[tokio::test]
async fn ranges_of_cluster_ips_are_followed_and_one_that_cannot_be_read_keeps_the_known_ones() {
    let api = api_with(&["a"]).await;
    api.apply(&range("kubernetes", "10.96.0.0/16"));
    let (publish, ranges) = watch::channel(Vec::new());
    let mut follower = Follower::start(&api, |options| options.service_cidrs = Some(publish)).await;
    let known = |expected: &[&str]| {
        let texts: Vec<String> = ranges.borrow().iter().map(ToString::to_string).collect();
        texts == expected
    };
    follower.until("the range is known", |_| known(&["10.96.0.0/16"])).await;
    api.apply(&range("more", "10.97.0.0/16"));
    follower.until("the second is known too", |_| known(&["10.96.0.0/16", "10.97.0.0/16"])).await;

    api.refuse("servicecidrs", Some(403));
    api.break_watches();
    let ledger = follower.ledger.clone();
    let is_named =
        || ledger.get(&Origin::ServiceCidrs).iter().any(|complaint| complaint.kind == Kind::Source);
    follower.until("the refusal is named", |_| is_named()).await;
    assert!(known(&["10.96.0.0/16", "10.97.0.0/16"]));

    api.delete("servicecidrs", "more");
    api.refuse("servicecidrs", None);
    follower.until("the missed change is in force", |_| known(&["10.96.0.0/16"]) && !is_named()).await;
}

#[tokio::test]
async fn ranges_are_not_requested_without_a_receiver() {
    let api = api_with(&["a"]).await;
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_services(&["a"]).await;
    assert!(api.requests("servicecidrs").is_empty());
}
