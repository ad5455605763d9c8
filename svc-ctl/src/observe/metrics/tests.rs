//! The page of an example node, compared with `svc-ctl/tests/metrics/page.txt` and with the page of a real kube-proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use hickory_server::proto::op::ResponseCode;
use svc_common::abi::{ServiceCounters, ServicePortId};
use svc_common::addr::Proto;

use super::process::{Process, Reader};
use super::requests::HealthPath;
use super::*;
use crate::dataplane::run_time::RunTime;
use crate::dataplane::usage::Usage;
use crate::lb::bgp::report::PeerCount;
use crate::lb::usage::PoolUse;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::endpoint::{Endpoint, Hints, Hostnames, PodNames, Slice, SlicePort, Triggered};
use crate::model::name::{IpFamily, ServiceName, ServicePortKey, SliceKey};
use crate::model::node::NodeInfo;
use crate::model::service::{Service, ServiceAddresses, ServicePort};
use crate::model::world::World;
use crate::observe::status::InterfaceStatus;
use crate::reconcile::{Changed, Durations, Served, TableSize};
use crate::sweeper::{LiveReport, SnatUse};

/// When the example's daemon starts, in milliseconds since 1970.
const START: u64 = 1_767_225_600_000;

/// Counters that the programs would have.
#[derive(Debug)]
struct Example;

impl ServiceCounts for Example {
    fn read(&self, ids: &[ServicePortId]) -> Option<Vec<ServiceCounters>> {
        let count = |id: &ServicePortId| ServiceCounters {
            flows: u64::from(id.0),
            packets: 10 * u64::from(id.0),
            bytes: 1_000 * u64::from(id.0),
        };
        Some(ids.iter().map(count).collect())
    }
}

impl ProgramRuns for Example {
    fn read(&self) -> BTreeMap<String, RunTime> {
        [("tc_ingress".to_owned(), RunTime { count: 1_000, time: Duration::from_micros(250) })].into()
    }
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares with a file of the repository, or writes it.
pub fn expect(path: &str, text: &str) {
    let file = project().join(path);
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        std::fs::write(&file, text).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(known == text, "{path} is out of date; with UPDATE_EXPECT=1 it is rewritten:\n{text}");
}

/// An endpoint of `default/NAME` on a node; its slice names a change `triggered` milliseconds after the start.
fn slice(name: &str, node: &str, triggered: Option<u64>) -> Slice {
    let endpoint = Endpoint {
        addr: "10.0.0.1".parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node.into()),
        hints: Hints::default(),
    };
    Slice {
        key: SliceKey::new("default", name),
        service: ServiceName::new("default", name),
        family: IpFamily::V4,
        ports: vec![SlicePort { name: "http".into(), proto: Proto::TCP, port: NonZeroU16::MIN }],
        endpoints: vec![endpoint],
        hostnames: Hostnames::default(),
        pods: PodNames::default(),
        is_headless: false,
        triggered: Triggered(triggered.map(|after| START + after)),
    }
}

/// A Service with both policies `Local` and a NodePort.
fn service(name: &str) -> Service {
    Service {
        name: ServiceName::new("default", name),
        created: None,
        families: vec![ServiceAddresses {
            cluster_ip: "10.96.0.1".parse().unwrap(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
        }],
        ports: vec![ServicePort {
            name: "http".into(),
            proto: Proto::TCP,
            port: NonZeroU16::MIN,
            node_port: NonZeroU16::new(30_000),
        }],
        internal_local: true,
        external_local: true,
        affinity: None,
        selection: None,
        serves_own_address: false,
        health_check_port: None,
        labels: Arc::default(),
    }
}

/// A world on node `here` that is in force `at` milliseconds after the start, taken 10 ms before.
pub fn served(at: u64, slices: &[Slice], services: &[Service]) -> Served {
    let mut world = World { node: Arc::new(NodeInfo::named("here")), ..World::default() };
    for slice in slices {
        world.slices.insert(slice.service.clone(), Arc::from([Arc::new(slice.clone())]));
    }
    for service in services {
        world.services.insert(service.name.clone(), Arc::new(service.clone()));
    }
    Served { world, noticed_unix_ms: START + at - 10, in_force_unix_ms: START + at }
}

fn progress() -> Progress {
    let mut turns = Durations::default();
    [1, 3].map(Duration::from_millis).into_iter().for_each(|took| turns.add(took));
    let size = |table, used| TableSize { table, used, capacity: 65_536, can_grow: true };
    Progress {
        synced: true,
        generation: 7,
        queued_unix_ms: Some(START + 4_990),
        updated_unix_ms: Some(START + 5_000),
        is_node_eligible: true,
        ops: 12,
        planned: 5,
        sizes: vec![size("frontends (IPv4)", 3), size("backends (IPv4)", 4), size("extents", 5)],
        changes: Changed { services: 3, slices: 4 },
        changes_in_force: Changed { services: 3, slices: 3 },
        turns,
        planning: turns,
        writing: turns,
        ..Progress::default()
    }
}

fn hooks() -> HooksStatus {
    let interface = |name: &str, role: &str, hooks: &[&str], errors: &[&str]| InterfaceStatus {
        name: name.to_owned(),
        role: role.to_owned(),
        hooks: hooks.iter().map(|hook| (*hook).to_owned()).collect(),
        errors: errors.iter().map(|error| (*error).to_owned()).collect(),
        ..InterfaceStatus::default()
    };
    let interfaces = vec![
        interface("lo", "none", &[], &[]),
        interface("eth0", "uplink", &["tcx/ingress", "tcx/egress", "xdp/native"], &[]),
        interface("veth1", "pod", &["tcx/ingress", "tcx/egress"], &[]),
        interface("veth2", "pod", &[], &["no room"]),
    ];
    HooksStatus { is_attached: true, interfaces, reattached: 1, ..HooksStatus::default() }
}

fn sweeps() -> SweepReport {
    let snat = SnatUse { destination: "10.0.0.1:80".parse().unwrap(), proto: Proto::TCP, ports: 3 };
    SweepReport {
        usage: vec![Usage { table: "flows (IPv4)", used: 20, capacity: 262_144 }],
        counters: [("flow_new", 10), ("drop_no_route", 2), ("reject_no_endpoint", 3)]
            .map(|(label, count)| (label.to_owned(), count))
            .into(),
        evicted: [("flow_evicted_v4", 1)].into(),
        live: LiveReport {
            flows: [10, 0],
            by_service: [(1, 4), (3, 6)].into(),
            snat: [vec![snat], Vec::new()],
            ..LiveReport::default()
        },
        udp_flows_removed: 1,
        ..SweepReport::default()
    }
}

fn dns() -> DnsCounts {
    let counts = DnsCounts::default();
    counts.responded(ResponseCode::NoError, true);
    counts.responded(ResponseCode::NXDomain, true);
    counts.responded(ResponseCode::ServFail, false);
    counts
}

fn in_force() -> InForce {
    let key = |name: &str| ServicePortKey {
        service: ServiceName::new("default", name),
        port: "http".into(),
        proto: Proto::TCP,
    };
    InForce {
        services: [(key("a"), ServicePortId(1)), (key("b"), ServicePortId(2)), (key("c"), ServicePortId(3))]
            .into_iter()
            .collect(),
        ..InForce::default()
    }
}

/// Metrics of an example in which every metric has a sample.
pub fn example() -> Metrics {
    let complaint = Complaint::new(Kind::Host, "Node here", "ip_forward", "is 0");
    let api = ApiRequests::default();
    api.answered("GET", "192.0.2.1:6443", "200", Duration::from_millis(20));
    api.answered("POST", "192.0.2.1:6443", "<error>", Duration::from_secs(61));
    let followed = Followed::new(START);
    followed.update(served(5_000, &[slice("a", "there", Some(4_700))], &[service("a")]));
    let process = Process {
        cpu_seconds: 1.5,
        start_seconds: START as f64 / 1e3,
        resident_bytes: 10_000_000,
        virtual_bytes: 20_000_000,
        most_virtual_bytes: u64::MAX,
        open_fds: 30,
        most_fds: 1024,
        tasks: 12,
    };
    let sources = Sources {
        load_balancer: watch::channel(Count {
            here: 2,
            elsewhere: 1,
            unanswered: 1,
            conflicts: 0,
            taken: 3,
            given_up: 1,
        })
        .1,
        peers: watch::channel(
            [(
                "tor1".to_owned(),
                PeerCount { is_established: true, prefixes: 2, updates: 5, established: 1 },
            )]
            .into(),
        )
        .1,
        dns: Some(dns()),
        pools_use: watch::channel(PoolsUse {
            pools: vec![PoolUse { pool: "a".to_owned(), family: IpFamily::V4, addresses: 254, in_use: 3 }],
            exhausted: 1,
            refused: 0,
        })
        .1,
        progress: watch::channel(progress()).1,
        in_force: watch::channel(in_force()).1,
        hooks: watch::channel(hooks()).1,
        sweeps: watch::channel(sweeps()).1,
        complaints: watch::channel([(Origin::Host, Arc::from([complaint]))].into_iter().collect()).1,
        api,
        pin_dir: PathBuf::new(),
        most_services: 2,
        snat_ports: 28_976,
        measures_programs: true,
    };
    let process = Reader(Arc::new(move || Some(process)));
    let metrics = Metrics::over(sources, &followed, Box::new(Example), Box::new(Example), process);
    metrics.health.answered(HealthPath::Healthz, true);
    metrics.health.answered(HealthPath::Livez, false);
    metrics
}

#[test]
fn the_page_has_every_metric() {
    expect("svc-ctl/tests/metrics/page.txt", &example().prometheus_text().unwrap());
}

#[test]
fn an_open_metrics_page_has_the_same_series() {
    // The formats write bounds and order labels and samples differently.
    let series = |page: &str| -> BTreeSet<Vec<String>> {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| {
            let series = series.replace(".0\"", "\"");
            let mut words: Vec<String> = series.split(['{', ',', '}']).map(ToOwned::to_owned).collect();
            words.sort();
            words
        });
        series.collect()
    };
    let (open, plain) = (example().open_metrics().unwrap(), example().prometheus_text().unwrap());
    assert!(open.ends_with("# EOF\n"));
    let (open, plain) = (series(&open), series(&plain));
    let differing: Vec<&Vec<String>> = open.symmetric_difference(&plain).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// Counts of the histogram of programming latency by family, and its IPv4 sum.
fn programming(followed: &Followed) -> ([u64; 2], f64) {
    let [v4, v6] = followed.programming();
    ([v4.count, v6.count], v4.sum)
}

#[test]
fn sem_057_a_change_counts_once_and_only_since_the_start() {
    let followed = Followed::new(START);
    followed.update(served(1_000, &[slice("a", "here", Some(700)), slice("old", "here", None)], &[]));
    assert_eq!(programming(&followed), ([1, 0], 0.3));
    // The slice is the same, and another one names a change before the start.
    let mut before = slice("b", "here", None);
    before.triggered = Triggered(Some(START - 1));
    followed.update(served(2_000, &[slice("a", "here", Some(700)), before], &[]));
    assert_eq!(programming(&followed).0, [1, 0]);
    // The trigger time of a deleted slice is older than its deletion.
    followed.update(served(3_000, &[], &[]));
    assert_eq!(programming(&followed).0, [1, 0]);
    followed.update(served(4_000, &[slice("a", "here", Some(3_750))], &[]));
    assert_eq!(programming(&followed), ([2, 0], 0.55));
    assert_eq!(followed.noticing().count(), 2);
}

#[test]
fn par_155_a_port_with_policy_local_counts_if_all_its_endpoints_are_elsewhere() {
    let counts = |slices: &[Slice], services: &[Service]| {
        let followed = Followed::new(START);
        followed.update(served(10, slices, services));
        let all = followed.without_local_endpoints();
        all.into_iter().map(|(_, count)| count).collect::<Vec<_>>()
    };
    let elsewhere = slice("a", "there", None);
    // External and internal of IPv4, then of IPv6.
    assert_eq!(counts(std::slice::from_ref(&elsewhere), &[service("a")]), [1, 1, 0, 0]);
    assert_eq!(counts(&[slice("a", "here", None)], &[service("a")]), [0; 4]);
    assert_eq!(counts(&[], &[service("a")]), [0; 4]);
    let mut unready = elsewhere.clone();
    unready.endpoints.iter_mut().for_each(|endpoint| (endpoint.ready, endpoint.serving) = (false, false));
    assert_eq!(counts(&[unready], &[service("a")]), [0; 4]);
    let cluster = Service { internal_local: false, external_local: false, ..service("a") };
    assert_eq!(counts(&[elsewhere], &[cluster]), [0; 4]);
}

/// Type, names of labels, and upper bounds of a metric.
type Shape = (String, BTreeSet<String>, Vec<String>);

/// The metrics of a page by name.
pub fn shapes(page: &str) -> BTreeMap<String, Shape> {
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    let mut family = String::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut family);
            shapes.insert(family.clone(), (kind.to_owned(), BTreeSet::new(), Vec::new()));
        }
        let Some((_, labels, bounds)) = shapes.get_mut(&family) else { continue };
        let Some((_, list)) = line.split_once('{').filter(|_| !line.starts_with('#')) else { continue };
        for label in list.split("\",").filter_map(|label| label.split_once("=\"")) {
            let value = label.1.split('"').next().unwrap_or_default();
            match label.0 {
                "le" if bounds.iter().any(|bound| bound == value) => {}
                "le" => bounds.push(value.to_owned()),
                name => drop(labels.insert(name.to_owned())),
            }
        }
    }
    shapes
}

#[test]
fn every_metric_of_a_real_kube_proxy_is_here_with_its_shape_or_has_a_reason_not_to_be() {
    let theirs = std::fs::read_to_string(project().join("svc-ctl/tests/metrics/kube-proxy.txt")).unwrap();
    let (theirs, ours) = (shapes(&theirs), shapes(&example().prometheus_text().unwrap()));
    assert!(theirs.len() > 30, "{}", theirs.len());
    let mut wrong = Vec::new();
    for (name, shape) in &theirs {
        let is_left_out = docs::left_out(name).is_some();
        match ours.get(name) {
            Some(own) if own != shape || is_left_out => {
                wrong.push(format!("{name}: {own:?}, there {shape:?}"))
            }
            None if !is_left_out => wrong.push(format!("{name} is not here, without a reason")),
            Some(_) | None => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
