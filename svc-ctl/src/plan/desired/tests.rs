//! Plans as text: YAML in, rendered tables out.

use super::*;
use crate::model::node::NodeAddresses;
use crate::plan::ids::Capacity;
use crate::plan::render::render;
use crate::plan::tables::Frontend;
use crate::plan::tick::GRACE_TICKS;
use crate::source::sample::store;

/// A store with these Services (`name: spec`) and slices (`service: addresses`), all IPv4, port 80 to 8080.
fn snapshot(services: &[(&str, &str)], slices: &[(&str, &str)]) -> Snapshot {
    let service = |(name, spec): &(&str, &str)| {
        format!("{{metadata: {{name: {name}}}, spec: {{ports: [{{port: 80}}], {spec}}}}}")
    };
    let slice = |(service, addresses): &(&str, &str)| {
        let endpoints: Vec<String> = addresses.split(' ').map(|a| format!("{{addresses: [{a}]}}")).collect();
        format!(
            "{{metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}},
            addressType: IPv4, ports: [{{name: '', port: 8080}}], endpoints: [{}]}}",
            endpoints.join(", ")
        )
    };
    let services: Vec<String> = services.iter().map(service).collect();
    let slices: Vec<String> = slices.iter().map(slice).collect();
    let mut store = store(&services, &slices);
    let addrs = ["127.0.0.1", "192.0.2.1"].iter().map(|a| a.parse().unwrap()).collect();
    store.set_addresses(NodeAddresses { addrs, ..NodeAddresses::default() });
    store.snapshot().unwrap()
}

fn plan(snapshot: &Snapshot, actual: &Tables, ids: Ids, now: u64) -> Planned {
    plan_tables(snapshot, &Settings::default(), actual, ids, Tick(now))
}

fn first_plan(snapshot: &Snapshot, capacity: Capacity) -> Planned {
    plan(snapshot, &Tables::default(), Ids::restored(&Tables::default(), capacity), 0)
}

fn reasons(planned: &Planned) -> Vec<String> {
    planned.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn sem_059_equal_sets_share_an_extent_and_host_addresses_are_host_backends() {
    let world = snapshot(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.2 192.0.2.1"), ("b", "192.0.2.1 10.0.0.2")],
    );
    let planned = first_plan(&world, Capacity::default());
    assert_eq!(
        render(&planned.tables),
        "backend   b1 10.0.0.2:8080 remote
backend   b2 192.0.2.1:8080 host
extent    0+2 -> b1 b2
frontend  10.96.0.1:80/TCP service=1 cluster=0+2 local=- usable,masquerade-others
frontend  10.96.0.2:80/TCP service=2 cluster=0+2 local=- usable,masquerade-others
address   10.96.0.1 cluster-ip
address   10.96.0.2 cluster-ip
address   127.0.0.1 local
address   192.0.2.1 local,node-port
"
    );
}

#[test]
fn ids_survive_a_restart_and_arrivals_before_them() {
    let world = snapshot(&[("b", "clusterIP: 10.96.0.2")], &[("b", "10.0.0.2 10.0.0.3")]);
    let before = first_plan(&world, Capacity::default());
    let world = snapshot(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.1"), ("b", "10.0.0.2 10.0.0.3")],
    );
    let after = plan(&world, &before.tables, Ids::restored(&before.tables, Capacity::default()), 0);
    for (frontend, entry) in &before.tables.frontends {
        assert_eq!(after.tables.frontends.get(frontend), Some(entry));
    }
    for (id, backend) in &before.tables.backends {
        assert_eq!(after.tables.backends.get(id), Some(backend));
    }
}

#[test]
fn sem_017_the_first_by_name_keeps_an_address_and_a_cluster_address_goes_before_all() {
    let world = snapshot(
        &[
            ("a", "clusterIP: 10.96.0.1, externalIPs: [10.96.0.2, 192.0.2.9]"),
            ("b", "clusterIP: 10.96.0.2, externalIPs: [192.0.2.9]"),
            ("c", "clusterIP: 10.96.0.1"),
        ],
        &[],
    );
    let planned = first_plan(&world, Capacity::default());
    assert_eq!(
        reasons(&planned),
        [
            "Service default/c: spec.clusterIPs: 10.96.0.1:80/TCP already belongs to Service default/a/TCP",
            "Service default/a: spec.externalIPs: 10.96.0.2:80/TCP already belongs to Service default/b/TCP",
            "Service default/b: spec.externalIPs: 192.0.2.9:80/TCP already belongs to Service default/a/TCP",
        ]
    );
    assert_eq!(planned.tables.frontends.len(), 3);
}

#[test]
fn sem_124_only_udp_frontends_with_an_endpoint_that_serves_say_where_flows_may_stay() {
    let ports = "ports: [{name: '', protocol: UDP, port: 53}]";
    let world = |slice: &str| {
        let service = "{metadata: {name: dns}, spec: {clusterIP: 10.96.0.1, ports: [
            {port: 53, protocol: UDP, nodePort: 30053}, {name: tcp, port: 53}]}}";
        let slice = format!(
            "{{metadata: {{name: s, labels: {{kubernetes.io/service-name: dns}}}}, addressType: IPv4, {ports},
            endpoints: [{slice}]}}"
        );
        let mut store = store(&[service.to_owned()], &[slice]);
        let serving = first_plan(&store.snapshot().unwrap(), Capacity::default()).serving;
        let line = |(f, set): (&Frontend, &Arc<BTreeSet<SocketAddr>>)| {
            let set: Vec<String> = set.iter().map(ToString::to_string).collect();
            format!("{} {}", crate::plan::render::frontend_text(f), set.join(" "))
        };
        serving.iter().map(line).collect::<Vec<_>>()
    };
    // Terminating and serving, ready and not serving, neither.
    let mixed = "{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}},
        {addresses: [10.0.0.2], conditions: {ready: true, serving: false}},
        {addresses: [10.0.0.3], conditions: {ready: false, serving: false}}";
    assert_eq!(
        world(mixed),
        ["node-port:30053/UDP/IPv4 10.0.0.1:53 10.0.0.2:53", "10.96.0.1:53/UDP 10.0.0.1:53 10.0.0.2:53"]
    );
    assert!(world("{addresses: [10.0.0.3], conditions: {ready: false, serving: false}}").is_empty());
}

#[test]
fn sem_233_clients_may_stay_with_what_is_listed_and_its_ids_live_as_long() {
    let affine = "clusterIP: 10.96.0.1, sessionAffinity: ClientIP";
    let world = |slices: &[(&str, &str)]| snapshot(&[("a", affine), ("b", "clusterIP: 10.96.0.2")], slices);
    let ids = |planned: &Planned| -> Vec<(u32, Vec<u32>)> {
        let list = |ids: &BTreeSet<BackendId>| ids.iter().map(|id| id.0).collect();
        planned.stays.iter().map(|(service, ids)| (service.0, list(ids))).collect()
    };
    let is_ready = "10.0.0.3], conditions: {ready: true, serving: true";
    let unready = "10.0.0.3], conditions: {ready: false, serving: false";
    let three = |third: &str| {
        let yaml = format!(
            "{{metadata: {{name: s, labels: {{kubernetes.io/service-name: a}}}}, addressType: IPv4,
            ports: [{{name: '', port: 8080}}],
            endpoints: [{{addresses: [10.0.0.1]}}, {{addresses: [10.0.0.2]}}, {{addresses: [{third}}}}}]}}"
        );
        let service = format!("{{metadata: {{name: a}}, spec: {{ports: [{{port: 80}}], {affine}}}}}");
        store(&[service], &[yaml]).snapshot().unwrap()
    };
    let next = |world: &Snapshot, last: Planned| {
        let mut ids = last.ids;
        ids.release(Tick(0));
        plan(world, &last.tables, ids, 0)
    };
    let all = first_plan(&three(is_ready), Capacity::default());
    assert_eq!(ids(&all), [(1, vec![1, 2, 3])]);
    // An endpoint that is not ready is not chosen, and yet keeps its clients.
    let fewer = next(&three(unready), all);
    assert_eq!((fewer.tables.backends.len(), ids(&fewer)), (2, vec![(1, vec![1, 2, 3])]));
    let back = next(&three(is_ready), fewer);
    assert_eq!((back.tables.backends.len(), ids(&back)), (3, vec![(1, vec![1, 2, 3])]));
    // One that was gone is another one when it comes back.
    let gone = next(&world(&[("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.9")]), back);
    assert_eq!(ids(&gone), [(1, vec![1, 2])]);
    let anew = next(&world(&[("a", "10.0.0.1 10.0.0.2 10.0.0.3")]), gone);
    assert_eq!(ids(&anew), [(1, vec![1, 2, 5])]);
    // Without affinity nobody stays.
    let none = next(&snapshot(&[("a", "clusterIP: 10.96.0.1")], &[("a", "10.0.0.1")]), anew);
    assert_eq!(ids(&none), []);
}

#[test]
fn a_full_table_names_the_service_and_spares_the_others() {
    let capacity = Capacity { selection: 4, ..Capacity::default() };
    let old = snapshot(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.3")],
    );
    let before = first_plan(&old, capacity);
    let new = snapshot(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.1 10.0.0.5"), ("b", "10.0.0.4")],
    );
    let mut after = plan(&new, &before.tables, before.ids.clone(), 1);
    assert!(after.is_full);
    assert_eq!(
        reasons(&after),
        ["Service default/a: spec.ports[]: the selection table is full (4 entries): it keeps what it has"]
    );
    let kept = |planned: &Planned, addr: &str| {
        let key = planned.tables.frontends.keys().find(|f| f.addr.to_string() == addr).copied().unwrap();
        planned.tables.frontends[&key]
    };
    assert_eq!(kept(&after, "10.96.0.1"), kept(&before, "10.96.0.1"));
    assert_ne!(kept(&after, "10.96.0.2"), kept(&before, "10.96.0.2"));
    // The place that b left comes free, and still two together are not to be had; c may go on.
    after.ids.release(Tick(1));
    let again = plan(&new, &after.tables, after.ids, 1 + GRACE_TICKS);
    assert!(again.is_full && again.tables == after.tables);
}

#[test]
fn what_does_not_fit_the_first_time_is_not_served() {
    let world = snapshot(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.3")],
    );
    for (capacity, served) in [
        (Capacity { backends: 2, ..Capacity::default() }, "10.96.0.2"),
        (Capacity { services: 2, ..Capacity::default() }, "10.96.0.1"),
        (Capacity { frontends: 1, ..Capacity::default() }, "10.96.0.1"),
        (Capacity { selection: 2, ..Capacity::default() }, "10.96.0.1"),
    ] {
        let planned = first_plan(&world, capacity);
        assert_eq!(planned.problems.len(), 1, "{capacity:?} {:?}", planned.problems);
        let served_now: Vec<String> = planned.tables.frontends.keys().map(|f| f.addr.to_string()).collect();
        assert_eq!(served_now, [served], "{capacity:?}");
    }
}

#[test]
fn what_has_no_room_leaves_nothing_of_itself_in_any_table() {
    let node = first_plan(&snapshot(&[], &[]), Capacity::default()).tables;
    let capacity = Capacity { addresses: node.addresses.len() as u32 + 1, ..Capacity::default() };
    let two = "clusterIP: 10.96.0.1, externalIPs: [198.51.100.1]";
    let planned = first_plan(&snapshot(&[("a", two)], &[("a", "10.0.0.1")]), capacity);
    assert_eq!(
        reasons(&planned),
        ["Service default/a: spec.ports[]: the address table is full (3 entries): it is not served"]
    );
    assert_eq!(planned.tables, node);
}
