//! The Kubernetes source against a small stand-in for the API that fails on request.

use std::time::Duration;

use api::{Fault, StandIn};
use svc_ctl::model::complaint::{Complaint, Origin};
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::store::Store;
use svc_ctl::observe::ledger::Ledger;
use svc_ctl::plan::book::{Book, Changes};
use svc_ctl::plan::capacity::Capacity;
use svc_ctl::plan::render::render;
use svc_ctl::plan::settings::Settings;
use svc_ctl::plan::tables::Tables;
use svc_ctl::plan::time::PlanTime;
use svc_ctl::source::event::Batch;
use svc_ctl::source::kubernetes::{self, Options};
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::world::World;
use tokio::sync::mpsc;

#[path = "kubernetes/api.rs"]
mod api;
#[path = "kubernetes/connect.rs"]
mod connect;
#[path = "kubernetes/failures.rs"]
mod failures;
#[path = "kubernetes/outbox.rs"]
mod outbox;
#[path = "kubernetes/ranges.rs"]
mod ranges;

/// Longer than any wait of these tests.
const DEADLINE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A source connected to the stand-in, and a store.
struct Follower {
    store: Store,
    events: mpsc::Receiver<Batch>,
    ledger: Ledger,
    /// The lowest number of Services in any state since the first complete one. An incomplete state would show here.
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
        let ledger = Ledger::default();
        tokio::spawn(kubernetes::run(client, options, send, ledger.subscribe(), ledger.clone()));
        Self { store: Store::new("test-node"), events, ledger, fewest: usize::MAX }
    }

    /// Applies events until the condition holds; fails after the deadline.
    async fn until(&mut self, what: &str, is_true: impl Fn(&mut Store) -> bool) {
        let wait = async {
            while !is_true(&mut self.store) {
                // The condition may also be about the stand-in, which sends no event for it.
                let batch = tokio::time::timeout(LOOK_AGAIN, self.events.recv()).await;
                for event in batch.map_or(Vec::new(), |b| b.expect("the source has ended")) {
                    self.store.take(event);
                }
                let services = match self.store.is_synced() {
                    true => self.store.world().services.len(),
                    false => usize::MAX,
                };
                self.fewest = self.fewest.min(services);
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Complaints about the API and its objects.
    fn complaints(&self) -> Vec<Complaint> {
        self.ledger.get(&Origin::Source)
    }

    async fn until_complaint(&mut self, text: &str) {
        let ledger = self.ledger.clone();
        let is_said = move |_: &mut Store| {
            let all = [Origin::Source, Origin::ThisNode].map(|origin| ledger.get(&origin)).concat();
            all.iter().any(|complaint| complaint.to_string().contains(text))
        };
        self.until(&format!("complaint {text:?}"), is_said).await;
    }

    async fn until_no_complaint(&mut self) {
        let ledger = self.ledger.clone();
        let is_well = move |_: &mut Store| {
            [Origin::Source, Origin::ThisNode].iter().all(|origin| ledger.get(origin).is_empty())
        };
        self.until("no complaint", is_well).await;
    }

    async fn until_services(&mut self, names: &[&str]) {
        self.until(&format!("services {names:?}"), |store| services(store) == names).await;
    }
}

fn services(store: &mut Store) -> Vec<String> {
    let names =
        store.is_synced().then(|| store.world().services.keys().map(|k| k.name.to_string()).collect());
    names.unwrap_or_default()
}

fn service(name: &str, n: u8) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: default}},
        spec: {{clusterIP: 10.96.0.{n}, clusterIPs: [10.96.0.{n}], ipFamilies: [IPv4], ports: [{{port: 80, protocol: TCP}}]}}}}"
    )
}

const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: test-node}}";

/// A server with these Services and our Node.
async fn api_with(services: &[&str]) -> StandIn {
    let api = StandIn::start().await;
    api.apply(NODE);
    for (n, name) in services.iter().enumerate() {
        api.apply(&service(name, n as u8 + 1));
    }
    api
}

#[tokio::test]
async fn lists_in_pages_with_our_selectors_and_follows_changes() {
    let api = api_with(&["a", "b", "c", "d", "e"]).await;
    // The cache does not answer, so the list comes in pages.
    api.fail("services", &[Fault::List(410)]);
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
            store.world().services.values().any(|s| s.families[0].cluster_ip.to_string() == "10.96.0.77")
        })
        .await;
}

#[tokio::test]
async fn a_watch_goes_on_from_its_bookmark_and_after_a_cut_line() {
    let api = api_with(&["a"]).await;
    // Changes of other kinds raise the version; the bookmark says so.
    api.fail("services", &[Fault::WatchBookmark, Fault::WatchCut]);
    let mut follower = Follower::start(&api, |_| {}).await;
    follower.until_services(&["a"]).await;
    follower.until("both faults were met", |_| api.faults_left() == 0).await;
    api.apply(&service("b", 2));
    follower.until_services(&["a", "b"]).await;
    let requests = api.requests("services");
    assert_eq!(requests.iter().filter(|r| !r.contains("watch")).count(), 1, "no second list: {requests:?}");
    assert_eq!(follower.fewest, 1);
}

#[tokio::test]
async fn after_too_old_the_objects_are_listed_again_and_no_incomplete_state_is_seen() {
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
async fn lists_are_streamed_on_request_and_paged_where_the_server_refuses() {
    let api = api_with(&["a", "b"]).await;
    let mut follower = Follower::start(&api, |o| o.streaming_lists = true).await;
    follower.until_services(&["a", "b"]).await;
    assert!(api.requests("services").iter().all(|r| r.contains("sendInitialEvents=true")));

    let api = api_with(&["a", "b"]).await;
    api.fail("services", &[Fault::Watch(422)]);
    let mut follower = Follower::start(&api, |o| o.streaming_lists = true).await;
    follower.until_services(&["a", "b"]).await;
    assert!(api.requests("services").iter().any(|r| !r.contains("watch")));
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
    assert!(store.is_synced());
    let settings =
        Settings { node_port_addresses: "primary".parse().expect("a setting"), ..Settings::default() };
    let mut book = Book::new(Tables::default(), Capacity::default(), settings);
    let turn = book.turn(store.world(), &Changes::default(), PlanTime(0));
    let refused = store.take_complaints().into_iter().flat_map(|(_, list)| list);
    let problems = turn.complaints.into_iter().flat_map(|(_, list)| list);
    (render(book.tables()), refused.chain(problems).map(|c| c.to_string()).collect())
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
