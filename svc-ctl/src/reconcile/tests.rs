//! The loop on a paused clock, with stores that fail.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Service;
use tokio::sync::watch;

use super::*;
use crate::dataplane::fake::FakeStore;
use crate::dataplane::faulty::FaultyStore;
use crate::dataplane::store::{Growth, StoreError};
use crate::observe::ledger::Ledger;
use crate::plan::render::{parse, render};
use crate::plan::tables::{MapOp, Tables};
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
    fn apply(&mut self, ops: &[MapOp]) -> Vec<(usize, StoreError)> {
        self.0.lock().unwrap().apply(ops)
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        self.0.lock().unwrap().dump()
    }

    fn capacity(&self) -> Capacity {
        self.0.lock().unwrap().capacity()
    }

    fn fill_from(&mut self, old: &Self, tables: &Tables) -> Result<(), StoreError> {
        self.0.lock().unwrap().fill_from(&old.0.lock().unwrap(), tables)
    }
}

struct Lab {
    maps: Shared,
    events: mpsc::Sender<Batch>,
    addresses: watch::Sender<Option<NodeAddresses>>,
    settings: watch::Sender<Settings>,
    progress: watch::Receiver<Progress>,
    in_force: watch::Receiver<InForce>,
    ledger: Ledger,
    task: tokio::task::JoinHandle<()>,
}

impl Lab {
    fn start(maps: Shared) -> Self {
        Self::with_growth(maps, None, u32::MAX)
    }

    fn with_growth(maps: Shared, growth: Option<Growth<Shared>>, most_entries: u32) -> Self {
        Self::with(maps, growth, None, most_entries)
    }

    fn with(
        maps: Shared,
        growth: Option<Growth<Shared>>,
        first_swap: Option<FirstSwap>,
        most_entries: u32,
    ) -> Self {
        let (events, receive_events) = mpsc::channel(16);
        let (addresses, receive_addresses) = watch::channel(Some(NodeAddresses::default()));
        let (settings, receive_settings) = watch::channel(Settings::default());
        let outputs = Outputs::default();
        let (progress, in_force) = (outputs.progress.subscribe(), outputs.in_force.subscribe());
        let ledger = outputs.ledger.clone();
        let inputs = Inputs {
            events: receive_events,
            addresses: receive_addresses,
            settings: receive_settings,
            growth,
            first_swap,
        };
        let options = LoopSettings { node_name: "node1".to_owned(), most_entries, ..LoopSettings::default() };
        let task = tokio::spawn(run(inputs, maps.clone(), options, outputs));
        Self { maps, events, addresses, settings, progress, in_force, ledger, task }
    }

    async fn send(&self, batch: Batch) {
        self.events.send(batch).await.unwrap();
    }

    async fn wait(&mut self, what: impl FnMut(&Progress) -> bool) -> Progress {
        // The clock is paused: this waits for the condition, or fails if nothing happens for an hour.
        let waited = tokio::time::timeout(Duration::from_secs(3600), self.progress.wait_for(what)).await;
        waited.expect("it never came true").unwrap().clone()
    }
}

impl Drop for Lab {
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
async fn sem_260_nothing_is_pruned_before_the_sources_are_complete_and_then_all_is() {
    let maps = Shared::new(parse(RESTORED).unwrap(), 0);
    let mut world = Lab::start(maps);
    let mut batch = list(2);
    let last = batch.pop().unwrap();
    world.send(batch).await;
    tokio::time::sleep(COMPARE_PERIOD * 3).await;
    assert_eq!(render(&world.maps.tables()), RESTORED);
    assert!(!world.progress.borrow().synced);
    world.send(vec![last]).await;
    world.wait(|s| s.generation == 1).await;
    let text = render(&world.maps.tables());
    assert!(text.contains("10.96.0.2:80/TCP service=7"), "{text}");
    assert!(!text.contains("10.96.0.99"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn sem_264_the_loop_converges_with_a_failing_store() {
    let good = Shared::new(Tables::default(), 0);
    let mut world = Lab::start(good.clone());
    world.send(list(9)).await;
    world.wait(|s| s.generation == 1).await;

    let bad = Shared::new(Tables::default(), 3);
    bad.change(|m| m.dumps_to_fail = 2);
    let mut world = Lab::start(bad.clone());
    world.send(list(9)).await;
    let status = world.wait(|s| s.generation == 1).await;
    assert!(status.failures > 5);
    assert_eq!(status.last_error, None);
    assert_eq!(bad.tables(), good.tables());
}

#[tokio::test(start_paused = true)]
async fn the_first_swap_is_tried_until_it_succeeds() {
    let tries = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&tries);
    let swap: FirstSwap = Box::new(move || match count.fetch_add(1, Ordering::Relaxed) {
        0..3 => anyhow::bail!("no"),
        _ => Ok(()),
    });
    let mut world = Lab::with(Shared::new(Tables::default(), 0), None, Some(swap), u32::MAX);
    world.send(list(1)).await;
    world.wait(|s| s.failures == 3).await;
    tokio::time::sleep(COMPARE_PERIOD).await;
    assert_eq!(tries.load(Ordering::Relaxed), 4);
    let status = world.progress.borrow().clone();
    assert_eq!((status.failures, status.last_error), (3, None));
}

#[tokio::test(start_paused = true)]
async fn sem_215_while_writes_fail_the_change_is_shown_as_pending() {
    let maps = Shared::new(Tables::default(), 1);
    let mut world = Lab::start(maps.clone());
    world.send(list(1)).await;
    let status = world.wait(|s| s.failures > 3).await;
    assert!(status.pending_since_unix_ms.is_some() && status.last_error.is_some());
    assert_eq!(status.generation, 0);
    maps.change(|m| m.period = 0);
    let status = world.wait(|s| s.generation == 1).await;
    assert_eq!((status.pending_since_unix_ms, status.last_error), (None, None));
}

#[tokio::test(start_paused = true)]
async fn sem_126_sem_268_backends_that_udp_flows_may_keep_are_published_once_in_force() {
    let maps = Shared::new(Tables::default(), 1);
    let mut world = Lab::start(maps.clone());
    let service =
        "{metadata: {name: dns}, spec: {clusterIP: 10.96.0.53, ports: [{port: 53, protocol: UDP}]}}";
    let slice = "{metadata: {name: dns-1, labels: {kubernetes.io/service-name: dns}}, addressType: IPv4,
        ports: [{name: '', port: 5353, protocol: UDP}], endpoints: [{addresses: [10.0.0.1]}]}";
    let mut batch = list(0);
    batch.push(SourceEvent::Service(Event::Apply(Box::new(serde_yaml_ng::from_str(service).unwrap()))));
    batch.push(SourceEvent::Slice(Event::Apply(Box::new(serde_yaml_ng::from_str(slice).unwrap()))));
    world.send(batch).await;
    world.wait(|s| s.failures > 3).await;
    assert!(world.in_force.borrow().serving.is_empty());
    maps.change(|m| m.period = 0);
    world.wait(|s| s.generation == 1).await;
    let in_force = world.in_force.borrow().clone();
    let sets: Vec<_> =
        in_force.serving.values().flat_map(|set| set.iter().map(ToString::to_string)).collect();
    assert_eq!(sets, ["10.0.0.1:5353"]);
}

#[tokio::test(start_paused = true)]
async fn sem_265_drift_is_healed() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = Lab::start(maps.clone());
    world.send(list(3)).await;
    world.wait(|s| s.generation == 1).await;
    let before = maps.tables();
    maps.change(|m| m.inner.tables.frontends.clear());
    let status = world.wait(|s| s.drifts == 1).await;
    assert_eq!(maps.tables(), before);
    assert_eq!(status.generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_comparison_is_repeated_later_and_delays_no_change() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = Lab::start(maps.clone());
    world.send(list(1)).await;
    world.wait(|s| s.generation == 1).await;
    maps.change(|m| m.dumps_to_fail = usize::MAX);
    world.wait(|s| s.failures == 1).await;
    let begin = Instant::now();
    world.send(vec![SourceEvent::Service(Event::Apply(service(2)))]).await;
    world.wait(|s| s.generation == 2).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    world.wait(|s| s.failures == 2).await;
    assert!(begin.elapsed() >= COMPARE_PERIOD, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_write_that_the_kernel_always_refuses_delays_no_other() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = Lab::start(maps.clone());
    world.send(list(9)).await;
    world.wait(|s| s.generation == 1).await;
    maps.change(|m| m.poison = Some("10.96.0.20".to_owned()));
    world.send(vec![SourceEvent::Service(Event::Apply(service(20)))]).await;
    world.send(vec![SourceEvent::Service(Event::Apply(service(21)))]).await;
    let status = world.wait(|s| s.generation >= 2).await;
    assert!(status.last_error.is_some() && status.pending_since_unix_ms.is_none());
    let text = render(&maps.tables());
    assert!(text.contains("10.96.0.21:80/TCP") && !text.contains("10.96.0.20:80/TCP"), "{text}");
    assert!(!world.ledger.get(&Origin::Writes).is_empty());
    // A later change is in force at once.
    let begin = Instant::now();
    world.send(vec![SourceEvent::Service(Event::Apply(service(22)))]).await;
    world.wait(|s| s.generation == status.generation + 1).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    maps.change(|m| m.poison = None);
    world.wait(|s| s.last_error.is_none()).await;
    assert!(render(&maps.tables()).contains("10.96.0.20:80/TCP"));
    assert!(world.ledger.get(&Origin::Writes).is_empty());
}

#[tokio::test(start_paused = true)]
async fn tables_without_room_are_replaced_by_larger_ones() {
    let maps = Shared::new(Tables::default(), 0);
    maps.change(|m| m.inner.capacity.frontends = 4);
    let (ask, mut asked) = mpsc::unbounded_channel();
    let (answer, staged) = mpsc::channel(1);
    let mut world = Lab::with_growth(maps.clone(), Some(Growth { ask, staged }), u32::MAX);
    world.send(list(9)).await;
    let wanted: Capacity = asked.recv().await.unwrap();
    assert!(wanted.frontends >= 18, "{wanted:?}");
    assert_eq!(
        world.progress.borrow().generation,
        0,
        "nothing is in force as long as a Service waits for room"
    );
    assert!(
        world.ledger.subscribe().borrow().is_empty(),
        "no Service is named while larger tables are being made"
    );
    let larger = Shared::new(Tables::default(), 0);
    larger.change(|m| m.inner.capacity = wanted);
    let (swap, full) = (Arc::new(Mutex::new(None)), larger.clone());
    let swapped = Arc::clone(&swap);
    let swap_hooks = move || {
        *swapped.lock().unwrap() = Some(full.tables());
        Ok(())
    };
    drop(answer.send(Ok(Staged { store: larger.clone(), swap: Box::new(swap_hooks) })).await);
    let status = world.wait(|s| s.generation == 1).await;
    assert_eq!((status.growths, status.unserved), (1, 0));
    let at_swap = swap.lock().unwrap().take().unwrap();
    assert_eq!(at_swap, maps.tables(), "filled before the hooks move");
    assert_eq!(larger.tables().frontends.len(), 18);
    // The next change goes to the larger tables.
    world.send(vec![SourceEvent::Service(Event::Apply(service(20)))]).await;
    world.wait(|s| s.generation == 2).await;
    assert_eq!(
        (larger.tables().frontends.len(), maps.tables().frontends.len()),
        (20, at_swap.frontends.len())
    );
}

#[tokio::test(start_paused = true)]
async fn with_tables_that_cannot_grow_services_without_room_are_named_and_others_served() {
    let maps = Shared::new(Tables::default(), 0);
    maps.change(|m| m.inner.capacity.frontends = 4);
    let (ask, mut asked) = mpsc::unbounded_channel();
    let (answer, staged) = mpsc::channel(1);
    let mut world = Lab::with_growth(maps.clone(), Some(Growth { ask, staged }), u32::MAX);
    world.send(list(3)).await;
    asked.recv().await.unwrap();
    drop(answer.send(Err("FRONTENDS4: no memory".to_owned())).await);
    let status = world.wait(|s| s.generation == 1).await;
    assert_eq!(status.unserved, 1);
    let found = world.ledger.get(&Origin::Plan(ServiceName::new("default", "s3")));
    assert!(
        found[0].reason.contains("frontends table is full") && found[0].reason.contains("no memory"),
        "{found:?}"
    );
    // It is tried again later, and served at once when another Service goes.
    let begin = Instant::now();
    world.send(vec![SourceEvent::Service(Event::Delete(service(1)))]).await;
    world.wait(|s| s.unserved == 0).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(world.ledger.get(&Origin::Plan(ServiceName::new("default", "s3"))).is_empty());
}

/// A backend's id is used again only after a grace: no removal and no other change comes then.
#[tokio::test(start_paused = true)]
async fn a_service_without_room_is_served_within_a_second_of_room_that_comes_by_a_grace() {
    let maps = Shared::new(Tables::default(), 0);
    maps.change(|m| m.inner.capacity.backends = 2); // Number 0 is none.
    let mut world = Lab::start(maps.clone());
    let slice = |n: u8| {
        let yaml = format!(
            "{{metadata: {{name: s{n}, labels: {{kubernetes.io/service-name: s{n}}}}}, addressType: IPv4,
            ports: [{{name: '', port: 8080}}], endpoints: [{{addresses: [10.0.0.{n}]}}]}}"
        );
        Box::new(serde_yaml_ng::from_str(&yaml).unwrap())
    };
    world.send(list(2)).await;
    world.send(vec![SourceEvent::Slice(Event::Apply(slice(1)))]).await;
    world.send(vec![SourceEvent::Slice(Event::Apply(slice(2)))]).await;
    world.wait(|s| s.unserved == 1).await;
    let begin = Instant::now();
    world.send(vec![SourceEvent::Slice(Event::Delete(slice(1)))]).await;
    world.wait(|s| s.unserved == 0).await;
    assert!(begin.elapsed() <= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(render(&maps.tables()).contains("10.0.0.2:8080"));
}

#[tokio::test(start_paused = true)]
async fn par_131_sem_055_without_a_change_nothing_is_written() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = Lab::start(maps.clone());
    world.send(list(3)).await;
    world.wait(|s| s.generation == 1).await;
    let ops = world.progress.borrow().ops;
    world.send(list(3)).await;
    world.send(vec![SourceEvent::Service(Event::Apply(service(1)))]).await;
    tokio::time::sleep(COMPARE_PERIOD * 3).await;
    let status = world.progress.borrow().clone();
    assert_eq!((status.generation, status.ops, status.drifts), (1, ops, 0));
}

#[tokio::test(start_paused = true)]
async fn sem_022_sem_221_addresses_of_the_node_are_followed() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = Lab::start(maps.clone());
    world.send(list(1)).await;
    world.wait(|s| s.generation == 1).await;
    let addrs = ["192.0.2.1".parse().unwrap()].into();
    world.addresses.send(Some(NodeAddresses { addrs, ..NodeAddresses::default() })).unwrap();
    world.wait(|s| s.generation == 2).await;
    assert!(render(&maps.tables()).contains("address   192.0.2.1 local,node-port"));
}

#[tokio::test(start_paused = true)]
async fn sem_250_settings_of_the_plan_change_while_the_loop_runs() {
    let maps = Shared::new(Tables::default(), 0);
    let mut world = Lab::start(maps.clone());
    world.send(list(1)).await;
    world.wait(|s| s.generation == 1).await;
    let before = render(&maps.tables());
    assert!(!before.contains("service-cidrs") && !before.contains("pools"), "{before}");
    let pools = vec!["192.0.2.64/28".parse().unwrap(), "2001:db8::100/120".parse().unwrap()];
    let settings = Settings { service_cidrs: "10.96.0.0/16".parse().unwrap(), pools, ..Settings::default() };
    world.settings.send(settings).unwrap();
    world.wait(|s| s.generation == 2).await;
    let prefixes = "prefix    pools 192.0.2.64/28\nprefix    pools 2001:db8::100/120\nprefix    service-cidrs 10.96.0.0/16\n";
    assert!(render(&maps.tables()).contains(prefixes));
    world.settings.send(Settings::default()).unwrap();
    world.wait(|s| s.generation == 3).await;
    assert_eq!(render(&maps.tables()), before);
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_addresses_are_in_use_raises_a_complaint() {
    let mut world = Lab::start(Shared::new(Tables::default(), 0));
    world.send(list(1)).await;
    let mut twin = service(1);
    twin.metadata.name = Some("twin".to_owned());
    world.send(vec![SourceEvent::Service(Event::Apply(twin))]).await;
    world.wait(|s| s.generation >= 1).await;
    let origin = Origin::Plan(ServiceName::new("default", "twin"));
    let mut complaints = world.ledger.subscribe();
    let found = complaints.wait_for(|all| all.contains_key(&origin)).await.unwrap().clone();
    assert_eq!((found.len(), found[&origin].len()), (1, 2), "{found:?}");
}
