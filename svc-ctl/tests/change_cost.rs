//! Checks that work is in proportion to the change. The cost of one change is counted, not timed, and must not depend
//! on the number of Services: map operations, planned Services and allocations through the whole loop. Also checks
//! the memory per Service.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use svc_ctl::dataplane::store::{MapStore, StoreError};
use svc_ctl::dns::settings::Domain;
use svc_ctl::dns::zone::{Zone, ZoneSettings};
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::store::Store;
use svc_ctl::plan::book::{Book, Changes};
use svc_ctl::plan::capacity::Capacity;
use svc_ctl::plan::settings::Settings;
use svc_ctl::plan::tables::{MapOp, Tables};
use svc_ctl::plan::time::PlanTime;
use svc_ctl::reconcile::{self, Inputs, LoopSettings, Outputs, Progress};
use svc_ctl::source::event::{Batch, Event, SourceEvent};
use tokio::sync::{Mutex, mpsc, watch};

/// The counters are per process, so the tests run one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Counts the loop's allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Octets allocated and not freed.
static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: the system allocator does everything; the counters touch no memory of the callers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's guarantees are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tables that accept every write and store nothing.
struct Sink;

impl MapStore for Sink {
    fn apply(&mut self, _: &[MapOp]) -> Vec<(usize, StoreError)> {
        Vec::new()
    }

    fn dump(&mut self) -> Result<Tables, StoreError> {
        Ok(Tables::default())
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            frontends: 1 << 20,
            backends: 1 << 20,
            selection: 1 << 22,
            maglev: 1 << 16,
            ..Capacity::default()
        }
    }

    fn fill_from(&mut self, _: &Self, _: &Tables) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Costs of several changes.
#[derive(Debug)]
struct Cost {
    ops: u64,
    planned: u64,
    allocations: u64,
}

fn service(n: usize, is_external: bool) -> SourceEvent {
    let (a, b) = (n / 250, n % 250 + 1);
    let ingress = if is_external { format!(r#"{{"ip": "198.18.{a}.{b}"}}"#) } else { String::new() };
    let text = format!(
        r#"{{"metadata": {{"name": "s{n:06}", "namespace": "n{}"}}, "spec": {{"clusterIP": "10.{}.{}.{b}",
        "ports": [{{"port": 80, "protocol": "TCP"}}]}},
        "status": {{"loadBalancer": {{"ingress": [{ingress}]}}}}}}"#,
        n % 50,
        96 + a / 250,
        a % 250,
    );
    SourceEvent::Service(Event::InitApply(Box::new(serde_json::from_str(&text).expect("a Service"))))
}

fn slice(
    n: usize,
    round: usize,
    wrap: fn(Box<k8s_openapi::api::discovery::v1::EndpointSlice>) -> SourceEvent,
) -> SourceEvent {
    let endpoint = |k: usize| format!(r#"{{"addresses": ["10.{}.{}.{}"]}}"#, 128 + k, n / 250, n % 250 + 1);
    let text = format!(
        r#"{{"metadata": {{"name": "s{n:06}-x", "namespace": "n{}", "labels": {{"kubernetes.io/service-name": "s{n:06}"}}}},
        "addressType": "IPv4", "ports": [{{"name": "", "port": 8080, "protocol": "TCP"}}],
        "endpoints": [{}, {}, {}, {}]}}"#,
        n % 50,
        endpoint(0),
        endpoint(1),
        endpoint(2),
        endpoint(3 + round),
    );
    wrap(Box::new(serde_json::from_str(&text).expect("a slice")))
}

async fn until(progress: &mut watch::Receiver<Progress>, generation: u64) -> Progress {
    progress.wait_for(|p| p.generation >= generation).await.expect("the loop runs").clone()
}

/// The cost of eight changes, each of one EndpointSlice, beside that many Services.
async fn cost(services: usize) -> Cost {
    let (send, events) = mpsc::channel::<Batch>(4);
    let (_addresses, addresses) = watch::channel(Some(NodeAddresses::default()));
    let (_settings, settings) = watch::channel(Settings::default());
    let outputs = Outputs::default();
    let mut progress = outputs.progress.subscribe();
    let inputs = Inputs { events, addresses, settings, growth: None, first_swap: None };
    let task = tokio::spawn(reconcile::run(inputs, Sink, LoopSettings::default(), outputs));
    let mut list = vec![SourceEvent::Service(Event::Init), SourceEvent::Slice(Event::Init)];
    list.extend((0..services).map(|n| service(n, true)));
    list.extend((0..services).map(|n| slice(n, 0, |s| SourceEvent::Slice(Event::InitApply(s)))));
    list.extend([SourceEvent::Service(Event::InitDone), SourceEvent::Slice(Event::InitDone)]);
    list.extend([SourceEvent::Node(Event::Init), SourceEvent::Node(Event::InitDone)]);
    send.send(list).await.expect("the loop listens");
    until(&mut progress, 1).await;
    // Changes in the middle, prepared beforehand.
    let middle = services / 2;
    let changes: Vec<Batch> =
        (0..8).map(|k| vec![slice(middle + k, 1, |s| SourceEvent::Slice(Event::Apply(s)))]).collect();
    let before = progress.borrow().clone();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    for (n, change) in changes.into_iter().enumerate() {
        send.send(change).await.expect("the loop listens");
        until(&mut progress, 2 + n as u64).await;
    }
    let after = progress.borrow().clone();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    task.abort();
    Cost { ops: after.ops - before.ops, planned: after.planned - before.planned, allocations }
}

#[tokio::test]
async fn sem_274_the_cost_of_a_change_does_not_depend_on_the_number_of_services() {
    let _alone = ALONE.lock().await;
    let (few, many) = (cost(100).await, cost(4_000).await);
    println!("100 Services: {few:?}\n4,000 Services: {many:?}");
    assert_eq!((few.planned, few.ops), (many.planned, many.ops));
    assert_eq!(few.planned, 8, "one Service for each change");
    // Trees are one level deeper, and now and then a node splits.
    assert!(many.allocations * 10 <= few.allocations * 15, "{few:?} {many:?}");
}

/// Memory of DNS for such a Service: an index of its addresses.
#[test]
fn dns_takes_less_than_1024_octets_more_of_a_service() {
    const SERVICES: usize = 4_000;
    let _alone = ALONE.blocking_lock();
    let store = |store: Store| {
        let before = LIVE.load(Ordering::Relaxed);
        let store = filled(store, SERVICES);
        (store, LIVE.load(Ordering::Relaxed) - before)
    };
    let ((_without, without), (with, octets)) =
        (store(Store::new("node")), store(Store::new("node").with_names()));
    let before = LIVE.load(Ordering::Relaxed);
    let mut zone = Zone::new(ZoneSettings {
        domain: "cluster.local".parse::<Domain>().expect("a domain").0,
        addresses: Vec::new(),
        is_forwarding: false,
    });
    zone.set_world(with.world(), 1);
    let octets = (octets - without + LIVE.load(Ordering::Relaxed) - before) / SERVICES as i64;
    println!("{octets} octets a Service");
    assert!((1..1_024).contains(&octets), "{octets} octets a Service");
}

/// A change of one Service costs the same beside few and many.
#[test]
fn sem_274_the_cost_of_a_change_for_dns_does_not_depend_on_the_number_of_services() {
    let _alone = ALONE.blocking_lock();
    let cost = |services: usize| {
        let mut store = filled(Store::new("node").with_names(), services);
        let mut zone = Zone::new(ZoneSettings {
            domain: "cluster.local".parse::<Domain>().expect("a domain").0,
            addresses: Vec::new(),
            is_forwarding: false,
        });
        zone.set_world(store.world(), 1);
        // Another reader holds the previous zone.
        let _reader = zone.clone();
        store.take(slice(services / 2, 1, |s| SourceEvent::Slice(Event::Apply(s))));
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        zone.set_world(store.world(), 2);
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let (few, many) = (cost(100), cost(4_000));
    println!("100 Services: {few} allocations, 4,000 Services: {many}");
    assert!(many <= 2 * few, "{few} {many}");
}

/// A store with that many Services.
fn filled(mut store: Store, services: usize) -> Store {
    [SourceEvent::Service(Event::Init), SourceEvent::Slice(Event::Init), SourceEvent::Node(Event::Init)]
        .into_iter()
        .for_each(|event| store.take(event));
    (0..services).for_each(|n| store.take(service(n, false)));
    (0..services).for_each(|n| store.take(slice(n, 0, |s| SourceEvent::Slice(Event::InitApply(s)))));
    [
        SourceEvent::Service(Event::InitDone),
        SourceEvent::Slice(Event::InitDone),
        SourceEvent::Node(Event::InitDone),
    ]
    .into_iter()
    .for_each(|event| store.take(event));
    store
}

/// Memory of the model and the plan for a ClusterIP Service with four endpoints.
#[test]
fn a_service_takes_less_than_1900_octets() {
    const SERVICES: usize = 4_000;
    let _alone = ALONE.blocking_lock();
    let before = LIVE.load(Ordering::Relaxed);
    let store = filled(Store::new("node"), SERVICES);
    let mut book = Book::new(Tables::default(), Sink.capacity(), Settings::default());
    let everything = Changes { node: true, ..Changes::default() };
    drop(book.turn(store.world(), &everything, PlanTime(1)));
    let octets = (LIVE.load(Ordering::Relaxed) - before) / SERVICES as i64;
    println!("{octets} octets a Service");
    assert!(octets < 1_900, "{octets} octets a Service");
    assert_eq!(book.tables().frontends.len(), SERVICES);
}
