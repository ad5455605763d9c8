//! The loop on a paused clock, with stores that fail.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::Service;

use super::*;
use crate::dataplane::fake::FakeStore;
use crate::dataplane::faulty::FaultyStore;
use crate::dataplane::store::StoreError;
use crate::plan::render::{parse, render};
use crate::plan::tables::MapOp;
use crate::source::event::{Event, SourceEvent};

/// A store that the test looks into while the loop owns it.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<FaultyStore<FakeStore>>>);

impl Shared {
    fn new(tables: Tables, period: usize) -> Self {
        Self(Arc::new(Mutex::new(FaultyStore::new(FakeStore::holding(tables), period))))
    }

    fn tables(&self) -> Tables {
        self.0.lock().unwrap().inner.tables.clone()
    }

    fn change(&self, change: impl FnOnce(&mut FaultyStore<FakeStore>)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl MapStore for Shared {
    fn apply(&mut self, ops: &[MapOp]) -> (usize, Result<(), StoreError>) {
        self.0.lock().unwrap().apply(ops)
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        self.0.lock().unwrap().dump()
    }
}

struct World {
    maps: Shared,
    events: mpsc::Sender<Batch>,
    addresses: watch::Sender<NodeAddresses>,
    status: watch::Receiver<ReconcileStatus>,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    fn start(maps: Shared) -> Self {
        let (events, receive_events) = mpsc::channel(16);
        let (addresses, receive_addresses) = watch::channel(NodeAddresses::default());
        let (send_status, status) = watch::channel(ReconcileStatus::default());
        let inputs = Inputs { events: receive_events, addresses: receive_addresses };
        let options = Options { node_name: "node1".to_owned(), ..Options::default() };
        let task = tokio::spawn(run(inputs, maps.clone(), options, send_status));
        Self { maps, events, addresses, status, task }
    }

    async fn send(&self, batch: Batch) {
        self.events.send(batch).await.unwrap();
    }

    async fn wait(&mut self, what: impl FnMut(&ReconcileStatus) -> bool) -> ReconcileStatus {
        // The clock is paused: this waits for a fact, or fails when nothing is left to happen for an hour.
        let waited = tokio::time::timeout(Duration::from_secs(3600), self.status.wait_for(what)).await;
        waited.expect("it never came true").unwrap().clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn service(n: u8) -> Box<Service> {
    let yaml = format!(
        "{{metadata: {{name: s{n}}}, spec: {{clusterIP: 10.96.0.{n}, type: NodePort,
        ports: [{{port: 80, nodePort: {}}}]}}}}",
        30000 + u32::from(n)
    );
    Box::new(serde_yaml_ng::from_str(&yaml).unwrap())
}

fn list(services: u8) -> Batch {
    let mut batch = vec![SourceEvent::Service(Event::Init)];
    batch.extend((1..=services).map(|n| SourceEvent::Service(Event::InitApply(service(n)))));
    batch.push(SourceEvent::Service(Event::InitDone));
    batch.extend([SourceEvent::Slice(Event::Init), SourceEvent::Slice(Event::InitDone)]);
    batch.extend([SourceEvent::Node(Event::Init), SourceEvent::Node(Event::InitDone)]);
    batch
}

const RESTORED: &str = "frontend  10.96.0.2:80/TCP service=7 cluster=- local=- -\n\
                        frontend  10.96.0.99:80/TCP service=9 cluster=- local=- -\n";

#[tokio::test(start_paused = true)]
async fn nothing_is_pruned_before_the_sources_are_complete_and_then_all_is() {
    let maps = Shared::new(parse(RESTORED).unwrap(), 0);
    let mut world = World::start(maps);
    let mut batch = list(2);
    let last = batch.pop().unwrap();
    world.send(batch).await;
    tokio::time::sleep(COMPARE_PERIOD * 3).await;
    assert_eq!(render(&world.maps.tables()), RESTORED);
    assert!(!world.status.borrow().synced);
    world.send(vec![last]).await;
    world.wait(|s| s.generation == 1).await;
    let text = render(&world.maps.tables());
    assert!(text.contains("10.96.0.2:80/TCP service=7"), "{text}");
    assert!(!text.contains("10.96.0.99"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn it_converges_through_a_store_that_fails() {
    let good = Shared::new(Tables::default(), 0);
    let mut world = World::start(good.clone());
    world.send(list(9)).await;
    world.wait(|s| s.generation == 1).await;

    let bad = Shared::new(Tables::default(), 3);
    bad.change(|m| m.dumps_to_fail = 2);
    let mut world = World::start(bad.clone());
    world.send(list(9)).await;
    let status = world.wait(|s| s.generation == 1).await;
    assert!(status.failures > 5);
    assert_eq!(status.last_error, None);
    assert_eq!(bad.tables(), good.tables());
}

#[tokio::test(start_paused = true)]
async fn while_writes_fail_the_change_is_shown_as_pending() {
    let maps = Shared::new(Tables::default(), 1);
    let mut world = World::start(maps.clone());
    world.send(list(1)).await;
    let status = world.wait(|s| s.failures > 3).await;
    assert!(status.pending_since_unix_ms.is_some() && status.last_error.is_some());
    assert_eq!(status.generation, 0);
    maps.change(|m| m.period = 0);
    let status = world.wait(|s| s.generation == 1).await;
    assert_eq!((status.pending_since_unix_ms, status.last_error), (None, None));
}

#[tokio::test(start_paused = true)]
async fn sem_126_where_udp_flows_may_stay_is_told_when_it_is_in_force_and_not_before() {
    let maps = Shared::new(Tables::default(), 1);
    let mut world = World::start(maps.clone());
    let service =
        "{metadata: {name: dns}, spec: {clusterIP: 10.96.0.53, ports: [{port: 53, protocol: UDP}]}}";
    let slice = "{metadata: {name: dns-1, labels: {kubernetes.io/service-name: dns}}, addressType: IPv4,
        ports: [{name: '', port: 5353, protocol: UDP}], endpoints: [{addresses: [10.0.0.1]}]}";
    let mut batch = list(0);
    batch.push(SourceEvent::Service(Event::Apply(Box::new(serde_yaml_ng::from_str(service).unwrap()))));
    batch.push(SourceEvent::Slice(Event::Apply(Box::new(serde_yaml_ng::from_str(slice).unwrap()))));
    world.send(batch).await;
    let status = world.wait(|s| s.failures > 3).await;
    assert!(status.serving.is_empty());
    maps.change(|m| m.period = 0);
    let status = world.wait(|s| s.generation == 1).await;
    let sets: Vec<_> = status.serving.values().flat_map(|set| set.iter().map(ToString::to_string)).collect();
    assert_eq!(sets, ["10.0.0.1:5353"]);
}

#[tokio::test(start_paused = true)]
async fn drift_is_healed() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = World::start(maps.clone());
    world.send(list(3)).await;
    world.wait(|s| s.generation == 1).await;
    let before = maps.tables();
    maps.change(|m| m.inner.tables.frontends.clear());
    let status = world.wait(|s| s.drifts == 1).await;
    assert_eq!(maps.tables(), before);
    assert_eq!(status.generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_comparison_that_fails_is_not_tried_in_a_hurry() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = World::start(maps.clone());
    world.send(list(1)).await;
    world.wait(|s| s.generation == 1).await;
    let begin = Instant::now();
    maps.change(|m| m.dumps_to_fail = 5);
    world.wait(|s| s.failures == 5).await;
    world.wait(|s| s.last_error.is_none()).await;
    let pauses: Duration = (0..5).map(|n| FIRST_PAUSE * (1 << n)).sum();
    assert!(begin.elapsed() >= pauses, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn par_131_sem_055_without_a_change_nothing_is_written() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = World::start(maps.clone());
    world.send(list(3)).await;
    world.wait(|s| s.generation == 1).await;
    let ops = world.status.borrow().ops;
    world.send(list(3)).await;
    world.send(vec![SourceEvent::Service(Event::Apply(service(1)))]).await;
    tokio::time::sleep(COMPARE_PERIOD * 3).await;
    let status = world.status.borrow().clone();
    assert_eq!((status.generation, status.ops, status.drifts), (1, ops, 0));
}

#[tokio::test(start_paused = true)]
async fn sem_022_addresses_of_the_node_are_followed() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = World::start(maps.clone());
    world.send(list(1)).await;
    world.wait(|s| s.generation == 1).await;
    let addrs = ["192.0.2.1".parse().unwrap()].into();
    world.addresses.send(NodeAddresses { addrs, ..NodeAddresses::default() }).unwrap();
    world.wait(|s| s.generation == 2).await;
    assert!(render(&maps.tables()).contains("address   192.0.2.1 local,node-port"));
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_is_told() {
    let mut world = World::start(Shared::new(Tables::default(), 0));
    world.send(list(1)).await;
    let mut twin = service(1);
    twin.metadata.name = Some("twin".to_owned());
    world.send(vec![SourceEvent::Service(Event::Apply(twin))]).await;
    let status = world.wait(|s| !s.rejected.is_empty()).await;
    assert_eq!(status.rejected.len(), 2, "{:?}", status.rejected);
    assert!(status.rejected.iter().all(|r| r.object == "Service default/twin"));
}
