//! The Kubernetes source against a small stand-in for the API that fails on request.

use std::time::{Duration, Instant};

use api::{Fault, StandIn};
use serde_json::Value;
use svc_ctl::model::name::ServiceName;
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::store::Store;
use svc_ctl::model::warning::{Reason, Warning};
use svc_ctl::plan::desired::{Settings, plan_tables};
use svc_ctl::plan::ids::{Capacity, Ids};
use svc_ctl::plan::render::render;
use svc_ctl::plan::tables::Tables;
use svc_ctl::plan::tick::Tick;
use svc_ctl::plan::warnings::plan_warnings;
use svc_ctl::source::event::Batch;
use svc_ctl::source::kubernetes::{self, Options};
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::world::World;
use tokio::sync::mpsc;

#[path = "kubernetes/api.rs"]
mod api;
#[path = "kubernetes/connect.rs"]
mod connect;

/// Everything has happened by then, or never will.
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A source that follows the stand-in, into a store.
struct Follower {
    store: Store,
    events: mpsc::Receiver<Batch>,
    warn: mpsc::Sender<Warning>,
    /// Services seen in every state since the start that was complete; a tear shows as a missing one.
    fewest: usize,
}

impl Follower {
    async fn start(api: &StandIn, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            master: Some(api.url.clone()),
            node_name: "test-node".to_owned(),
            ..Options::default()
        };
        change(&mut options);
        let client = kubernetes::connect(&options).await.expect("a client");
        let (send, events) = mpsc::channel(64);
        let (warn, warnings) = mpsc::channel(8);
        tokio::spawn(kubernetes::run(client, options, send, warnings));
        Self { store: Store::new("test-node"), events, warn, fewest: usize::MAX }
    }

    /// Takes what comes until it is true, and fails if it never is.
    async fn until(&mut self, what: &str, is_true: impl Fn(&mut Store) -> bool) {
        let wait = async {
            while !is_true(&mut self.store) {
                // What is asked may also be a fact of the stand-in, of which no event tells.
                let batch = tokio::time::timeout(LOOK_AGAIN, self.events.recv()).await;
                for event in batch.map_or(Vec::new(), |b| b.expect("the source has ended")) {
                    self.store.take(event);
                }
                let services = self.store.snapshot().map_or(usize::MAX, |s| s.services.len());
                self.fewest = self.fewest.min(services);
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    async fn until_services(&mut self, names: &[&str]) {
        self.until(&format!("services {names:?}"), |store| services(store) == names).await;
    }
}

fn services(store: &mut Store) -> Vec<String> {
    store.snapshot().map(|s| s.services.keys().map(|k| k.name.to_string()).collect()).unwrap_or_default()
}

fn service(name: &str, n: u8) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}},
        spec: {{clusterIP: 10.96.0.{n}, clusterIPs: [10.96.0.{n}], ipFamilies: [IPv4], ports: [{{port: 80, protocol: TCP}}]}}}}"
    )
}

async fn api_with(services: &[&str]) -> StandIn {
    let api = StandIn::start().await;
    for (n, name) in services.iter().enumerate() {
        api.apply(&service(name, n as u8 + 1));
    }
    api
}

#[tokio::test]
async fn lists_in_pages_with_our_selectors_and_follows_changes() {
    let api = api_with(&["a", "b", "c", "d", "e"]).await;
    let mut follower = Follower::start(&api, |o| o.page_size = 2).await;
    follower.until_services(&["a", "b", "c", "d", "e"]).await;
    let lists = api.requests("services").into_iter().filter(|r| r.contains("limit=2")).count();
    assert_eq!(lists, 3, "{:?}", api.requests("services"));
    let has = |plural: &str, text: &str| api.requests(plural).iter().all(|r| r.contains(text));
    assert!(has("services", "labelSelector=!service.kubernetes.io/service-proxy-name"));
    assert!(has("services", "fieldSelector=spec.clusterIP!=None"));
    assert!(has("endpointslices", "labelSelector=!service.kubernetes.io/headless"));
    assert!(has("nodes", "fieldSelector=metadata.name=test-node"));

    api.apply(&service("f", 6));
    api.delete("services", "default/a");
    follower.until_services(&["b", "c", "d", "e", "f"]).await;
    api.apply(&service("b", 77));
    follower
        .until("b has a new address", |store| {
            let snapshot = store.snapshot().unwrap();
            snapshot.services.values().any(|s| s.families[0].cluster_ip.to_string() == "10.96.0.77")
        })
        .await;
}

#[tokio::test]
async fn a_watch_goes_on_from_its_bookmark_and_after_a_cut_line() {
    let api = api_with(&["a"]).await;
    // What another kind does moves the version on; the bookmark tells.
    api.fail("services", &[Fault::WatchBookmark, Fault::WatchCut]);
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_services(&["a"]).await;
    follower.until("both faults were met", |_| api.faults_left() == 0).await;
    api.apply(&service("b", 2));
    follower.until_services(&["a", "b"]).await;
    let requests = api.requests("services");
    assert_eq!(requests.iter().filter(|r| r.contains("limit=")).count(), 1, "no second list: {requests:?}");
    assert_eq!(follower.fewest, 1);
}

#[tokio::test]
async fn a_watch_that_is_too_old_is_listed_anew_without_a_tear() {
    for fault in [Fault::WatchGone, Fault::Watch(410)] {
        let api = api_with(&["a", "b", "c"]).await;
        let mut follower = Follower::start(&api, |o| o.page_size = 1).await;
        follower.until_services(&["a", "b", "c"]).await;
        api.fail("services", &[fault]);
        api.forget();
        api.break_watches();
        follower.until("the fault was met", |_| api.faults_left() == 0).await;
        api.delete("services", "default/b");
        api.apply(&service("d", 4));
        follower.until_services(&["a", "c", "d"]).await;
        assert!(follower.fewest >= 2, "torn: {}", follower.fewest);
    }
}

#[tokio::test]
async fn failures_of_the_server_are_outlived_and_told() {
    let api = api_with(&["a"]).await;
    api.fail("services", &[Fault::List(500), Fault::List(503), Fault::Watch(500)]);
    api.fail("endpointslices", &[Fault::List(500)]);
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until("the failure is told", |store| !store.rejected().is_empty()).await;
    follower.until_services(&["a"]).await;
    api.apply(&service("b", 2));
    follower.until_services(&["a", "b"]).await;
    follower.until("the failure is over", |store| store.rejected().is_empty()).await;
    assert_eq!(api.faults_left(), 0);
}

#[tokio::test]
async fn lists_are_streamed_on_request_and_paged_where_the_server_refuses() {
    let api = api_with(&["a", "b"]).await;
    let mut follower = Follower::start(&api, |o| o.streaming_lists = true).await;
    follower.until_services(&["a", "b"]).await;
    assert!(api.requests("services").iter().all(|r| r.contains("sendInitialEvents=true")));

    let api = api_with(&["a", "b"]).await;
    api.fail("services", &[Fault::Watch(422)]);
    let mut follower = Follower::start(&api, |o| o.streaming_lists = true).await;
    follower.until_services(&["a", "b"]).await;
    assert!(api.requests("services").iter().any(|r| r.contains("limit=")));
}

/// A server that comes back after a while is well when it refuses; the pause has grown meanwhile.
#[tokio::test]
async fn what_a_server_wants_otherwise_it_gets_at_once_however_long_it_was_away() {
    let api = api_with(&["a"]).await;
    let away = [500, 500, 500, 500].map(Fault::Watch);
    api.fail("services", &[&away[..], &[Fault::Watch(422)]].concat());
    let mut follower = Follower::start(&api, |o| o.streaming_lists = true).await;
    follower.until("the server refuses", |_| api.requests("services").len() == 5).await;
    let refused = Instant::now();
    follower.until_services(&["a"]).await;
    // The fifth pause would be 3.2 s at least.
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

const MANIFESTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, 'fd00:96::10']
  ipFamilies: [IPv4, IPv6]
  externalTrafficPolicy: Local
  ports: [{name: http, port: 80, protocol: TCP, nodePort: 30080}, {name: dns, port: 53, protocol: UDP, nodePort: 30053}]
---
apiVersion: v1
kind: Service
metadata: {name: bad, namespace: shop}
spec: {clusterIP: 10.96.0.11, clusterIPs: [10.96.0.11], ipFamilies: [IPv4], externalIPs: [oops], ports: [{port: 1, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: twin, namespace: shop}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ipFamilies: [IPv4], ports: [{port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}, {name: dns, port: 5353, protocol: UDP}]
endpoints:
- {addresses: [10.244.1.1], nodeName: test-node, hints: {forZones: [{name: a}]}}
- {addresses: [10.244.2.1], nodeName: other, hints: {forZones: [{name: b}]}}
- {addresses: [10.244.2.2], nodeName: other, conditions: {ready: false, serving: true, terminating: true}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: ['fd00:244::1'], nodeName: test-node}]
---
apiVersion: v1
kind: Node
metadata: {name: test-node, labels: {topology.kubernetes.io/zone: a}}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}
";

fn tables_and_complaints(store: &mut Store) -> (String, Vec<String>) {
    let addrs = ["127.0.0.1", "192.168.0.2", "192.168.1.2"].map(|a| a.parse().expect("an address"));
    store.set_addresses(NodeAddresses { addrs: addrs.into(), ..NodeAddresses::default() });
    let snapshot = store.snapshot().expect("complete");
    let settings =
        Settings { node_port_addresses: "primary".parse().expect("a setting"), ..Settings::default() };
    let none = Tables::default();
    let planned =
        plan_tables(&snapshot, &settings, &none, Ids::restored(&none, Capacity::default()), Tick(0));
    let complaints = store.rejected().iter().chain(&planned.problems).map(ToString::to_string).collect();
    (render(&planned.tables), complaints)
}

#[tokio::test]
async fn both_sources_make_the_same_tables_of_the_same_manifests() {
    let mut files = Files::default();
    files.update("all.yaml", Ok(MANIFESTS));
    let (objects, report) = files.objects();
    assert_eq!((objects.len(), report.len()), (6, 0));
    let mut by_hand = Store::new("test-node");
    World::of(&objects).list().into_iter().for_each(|event| by_hand.take(event));

    let api = StandIn::start().await;
    MANIFESTS.split("---\n").for_each(|document| api.apply(document));
    let mut follower = Follower::start(&api, |o| o.page_size = 2).await;
    follower.until("everything is listed", |store| store.is_synced()).await;

    let (tables, complaints) = tables_and_complaints(&mut follower.store);
    assert_eq!((tables.clone(), complaints.clone()), tables_and_complaints(&mut by_hand));
    assert!(
        tables.contains("address   192.168.0.2 local,node-port\naddress   192.168.1.2 local\n"),
        "{tables}"
    );
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}

#[tokio::test]
async fn sem_010_what_is_not_done_for_sctp_is_an_event_on_its_service_however_many_nodes_say_so() {
    let api = api_with(&["a"]).await;
    api.apply(
        "{kind: Service, metadata: {name: sctp, namespace: shop}, spec: {clusterIP: 10.96.0.9, ports: [
            {port: 7777, protocol: SCTP, nodePort: 30777}]}}",
    );
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until("the Service is there", |store| store.is_synced()).await;
    let warnings = plan_warnings(&follower.store.snapshot().expect("all lists are complete"));
    let mut other_node = Follower::start(&api, |o| o.node_name = "other-node".to_owned()).await;
    for follower in [&follower, &other_node, &follower] {
        for warning in &warnings {
            follower.warn.send(warning.clone()).await.expect("the source takes warnings");
        }
    }
    // The one that comes last is of one node alone.
    let service = ServiceName::new("shop", "sctp");
    let last = Warning { service, reason: Reason::HealthPort, note: "a port".to_owned() };
    follower.warn.send(last.clone()).await.expect("the source takes warnings");
    other_node.warn.send(last).await.expect("the source takes warnings");
    follower.until("both health check warnings have arrived", |_| api.created().len() >= 4).await;
    other_node.until("its lists are complete", |store| store.is_synced()).await;

    let created = api.created();
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<String> = created.iter().map(|event| text(event, "reason")).collect();
    told.sort();
    let twice = "FailedToStartServiceHealthcheck";
    assert_eq!(told, [twice, twice, "SctpFragmentsDropped", "SctpFromNodesNotServed"]);
    for event in &created {
        let of = &event["regarding"];
        assert_eq!([&of["kind"], &of["namespace"], &of["name"]], ["Service", "shop", "sctp"]);
        assert_eq!([&event["type"], &event["metadata"]["namespace"]], ["Warning", "shop"]);
    }
    let sctp = created.iter().filter(|event| text(event, "reason").starts_with("Sctp"));
    assert!(sctp.into_iter().all(|event| text(event, "note").starts_with("port 7777/SCTP: ")), "{created:?}");
}
