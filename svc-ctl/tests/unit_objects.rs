//! A random stream of valid and invalid objects. Every invalid part is refused by name and counted, and the tables of
//! all other Services stay exactly the same.
//!
//! The seed is printed; `SVC_SEED=N` repeats it. `unit_objects.regressions` has the seeds that failed once.

#[path = "unit_objects/make.rs"]
mod make;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use make::{Made, node, service, slice};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestRunner};
use svc_common::abi::{BackendId, Extent};
use svc_ctl::model::complaint::{Complaint, Origin};
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::store::Store;
use svc_ctl::plan::book::{Book, Changes};
use svc_ctl::plan::capacity::Capacity;
use svc_ctl::plan::diff::apply_op;
use svc_ctl::plan::settings::Settings;
use svc_ctl::plan::tables::{Backend, Frontend, FrontendEntry, MapOp, Tables};
use svc_ctl::plan::time::PlanTime;
use svc_ctl::source::event::{Event, SourceEvent};
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::world::World;

const STREAMS: u32 = 300;

/// Services that must not change, one of every kind.
const OTHERS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, externalIPs: [192.0.2.9], sessionAffinity: ClientIP, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dual}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.2, 'fd00:96::2']
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [203.0.113.0/24]
  ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 53, protocol: UDP, nodePort: 30053}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.10}]}}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {clusterIP: 10.96.0.3, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1], nodeName: test-node}, {addresses: [10.0.0.2]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dual, labels: {kubernetes.io/service-name: dual}}
addressType: IPv6
ports: [{name: a, port: 8080}, {name: b, port: 53, protocol: UDP}]
endpoints: [{addresses: ['fd00::1'], nodeName: test-node}]
";

#[derive(Clone, Debug)]
enum Change {
    Service(Made<Box<k8s_openapi::api::core::v1::Service>>),
    Slice(Made<Box<k8s_openapi::api::discovery::v1::EndpointSlice>>),
    Node(Made<Box<k8s_openapi::api::core::v1::Node>>),
    /// The last object is deleted again.
    Undo,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => service().prop_map(Change::Service),
        4 => slice().prop_map(Change::Slice),
        1 => node().prop_map(Change::Node),
        1 => Just(Change::Undo),
    ]
}

impl Change {
    /// The event, the object's name in refusals, and the fields that must be refused.
    fn event(&self) -> Option<(SourceEvent, SourceEvent, String, BTreeSet<String>)> {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        Some(match self.clone() {
            Self::Service(Made { object, bad }) => {
                let id = format!("Service fuzz/{}", name(&object.metadata.name));
                let delete = SourceEvent::Service(Event::Delete(object.clone()));
                (SourceEvent::Service(Event::Apply(object)), delete, id, bad)
            }
            Self::Slice(Made { object, bad }) => {
                let id = format!("EndpointSlice fuzz/{}", name(&object.metadata.name));
                let delete = SourceEvent::Slice(Event::Delete(object.clone()));
                (SourceEvent::Slice(Event::Apply(object)), delete, id, bad)
            }
            Self::Node(Made { object, bad }) => {
                let id = format!("Node {}", name(&object.metadata.name));
                let delete = SourceEvent::Node(Event::Delete(object.clone()));
                (SourceEvent::Node(Event::Apply(object)), delete, id, bad)
            }
            Self::Undo => return None,
        })
    }
}

/// The daemon without I/O.
struct Daemon {
    store: Store,
    book: Book,
    planned: Option<svc_ctl::model::world::World>,
    tables: Tables,
    complaints: BTreeMap<Origin, Vec<Complaint>>,
}

/// Everything that a frontend leads to.
type FrontendTarget = (FrontendEntry, BTreeMap<Extent, Arc<[BackendId]>>, BTreeMap<BackendId, Backend>);

impl Daemon {
    fn with_others() -> Self {
        let mut files = Files::default();
        files.update("others.yaml", Ok(OTHERS));
        let (objects, report) = files.objects();
        assert!(report.is_empty(), "{report:?}");
        let mut store = Store::new("test-node");
        World::of(&objects).list().into_iter().for_each(|event| store.take(event));
        let addrs = ["127.0.0.1", "192.168.0.2", "2001:db8::1"].map(|a| a.parse().expect("an address"));
        store.set_addresses(NodeAddresses { addrs: addrs.into(), ..NodeAddresses::default() });
        let book = Book::new(Tables::default(), Capacity::default(), Settings::default());
        let mut daemon =
            Self { store, book, planned: None, tables: Tables::default(), complaints: BTreeMap::new() };
        daemon.plan();
        daemon
    }

    fn listen(&mut self) {
        self.complaints.extend(self.store.take_complaints());
    }

    fn refused(&self) -> impl Iterator<Item = &Complaint> {
        self.complaints.values().flatten()
    }

    /// Plans and applies; returns the changes.
    fn plan(&mut self) -> Vec<MapOp> {
        assert!(self.store.is_synced());
        let world = self.store.world().clone();
        let changes = match &self.planned {
            Some(planned) => Changes::between(planned, &world),
            None => Changes { node: true, ..Changes::default() },
        };
        let ops = self.book.turn(&world, &changes, PlanTime(0)).ops;
        ops.iter().for_each(|op| apply_op(&mut self.tables, op));
        assert_eq!(self.tables, *self.book.tables());
        self.planned = Some(world);
        ops
    }

    fn leads(&self, frontend: &Frontend) -> FrontendTarget {
        let entry = self.tables.frontends[frontend];
        let extents = [entry.cluster, entry.local].into_iter().filter(|extent| extent.count > 0);
        let extents: BTreeMap<_, _> =
            extents.map(|extent| (extent, self.tables.extents[&extent].clone())).collect();
        let backends = extents
            .values()
            .flat_map(|set| set.iter())
            .map(|id| (*id, *self.tables.backends.get(id).expect("an extent names backends of the table")))
            .collect();
        (entry, extents, backends)
    }
}

fn play(changes: &[Change]) -> Result<(), TestCaseError> {
    let mut daemon = Daemon::with_others();
    let others: Vec<(Frontend, FrontendTarget)> =
        daemon.tables.frontends.keys().map(|frontend| (*frontend, daemon.leads(frontend))).collect();
    prop_assert_eq!(others.len(), 13);
    let mut last = None;
    for change in changes {
        match change.event() {
            Some((apply, delete, object, bad)) => {
                daemon.store.take(apply);
                daemon.listen();
                let named = daemon.refused().filter(|r| r.object == object).map(|r| r.field.clone());
                prop_assert_eq!(named.collect::<BTreeSet<_>>(), bad, "{}", object);
                last = Some((delete, object));
            }
            None => {
                let Some((delete, object)) = last.take() else { continue };
                daemon.store.take(delete);
                daemon.listen();
                prop_assert!(daemon.refused().all(|r| r.object != object), "{} is gone", object);
            }
        }
        for op in daemon.plan() {
            if let MapOp::PutFrontend(frontend, _) | MapOp::DeleteFrontend(frontend) = op {
                prop_assert!(
                    others.iter().all(|(other, _)| *other != frontend),
                    "{:?} was written",
                    frontend
                );
            }
        }
        for (frontend, leads) in &others {
            prop_assert_eq!(&daemon.leads(frontend), leads, "{:?}", frontend);
        }
    }
    Ok(())
}

#[test]
fn sem_009_invalid_parts_of_an_object_are_named_and_other_services_do_not_change() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let seed = std::env::var("SVC_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(clock);
    println!("SVC_SEED={seed}: {STREAMS} streams of objects");
    let config = Config {
        cases: STREAMS,
        rng_seed: RngSeed::Fixed(seed),
        source_file: Some(file!()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    };
    let streams = proptest::collection::vec(change(), 1..20);
    if let Err(error) = TestRunner::new(config).run(&streams, |changes| play(&changes)) {
        panic!("SVC_SEED={seed}: {error}");
    }
}
