//! Books as text: YAML in, rendered tables out.

use super::*;
use crate::model::node::NodeAddresses;
use crate::plan::render::render;
use crate::plan::time::GRACE_MILLIS;
use crate::source::sample::store;

/// A world with these Services (`name: spec`) and slices (`service: addresses`), all IPv4, port 80 to 8080.
fn world(services: &[(&str, &str)], slices: &[(&str, &str)]) -> World {
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
    store.world().clone()
}

/// A book beside the world that it has planned.
struct Played {
    book: Book,
    world: World,
    turn: Turn,
}

impl Played {
    fn first(world: &World, capacity: Capacity) -> Self {
        Self::over(Tables::default(), world, capacity)
    }

    fn over(found: Tables, world: &World, capacity: Capacity) -> Self {
        let mut book = Book::new(found, capacity, Settings::default());
        let turn = book.turn(world, &Changes::default(), PlanTime(0));
        Self { book, world: world.clone(), turn }
    }

    /// The next world, once the kernel holds the last one.
    fn then(&mut self, world: &World, now: u64) -> &mut Self {
        self.book.release(PlanTime(now));
        let changes = Changes::between(&self.world, world);
        self.turn = self.book.turn(world, &changes, PlanTime(now));
        self.world = world.clone();
        self
    }

    fn reasons(&self) -> Vec<String> {
        self.turn.complaints.iter().flat_map(|(_, all)| all).map(ToString::to_string).collect()
    }

    fn entry(&self, addr: &str) -> crate::plan::tables::FrontendEntry {
        let (_, entry) =
            self.book.tables().frontends.iter().find(|(f, _)| f.addr.to_string() == addr).unwrap();
        *entry
    }
}

#[test]
fn sem_059_equal_sets_share_an_extent_and_host_addresses_are_host_backends() {
    let world = world(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.2 192.0.2.1"), ("b", "192.0.2.1 10.0.0.2")],
    );
    let played = Played::first(&world, Capacity::default());
    assert_eq!(
        render(played.book.tables()),
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
    let old = world(&[("b", "clusterIP: 10.96.0.2")], &[("b", "10.0.0.2 10.0.0.3")]);
    let before = Played::first(&old, Capacity::default());
    let new = world(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.1"), ("b", "10.0.0.2 10.0.0.3")],
    );
    let after = Played::over(before.book.tables().clone(), &new, Capacity::default());
    for (frontend, entry) in &before.book.tables().frontends {
        assert_eq!(after.book.tables().frontends.get(frontend), Some(entry));
    }
    for (id, backend) in before.book.tables().backends.iter() {
        assert_eq!(after.book.tables().backends.get(&id), Some(backend));
    }
}

#[test]
fn sem_266_a_change_plans_its_service_and_its_rivals_alone() {
    let spec = |n: usize| {
        (format!("s{n:03}"), format!("clusterIP: 10.96.1.{n}, externalIPs: [192.0.2.{}]", 100 + n / 2))
    };
    let specs: Vec<(String, String)> = (0..100).map(spec).collect();
    let services: Vec<(&str, &str)> = specs.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
    let slices: Vec<(&str, &str)> = services.iter().map(|(n, _)| (*n, "10.0.0.1 10.0.0.2")).collect();
    let mut played = Played::first(&world(&services, &slices), Capacity::default());
    assert_eq!(played.turn.planned, 100);
    let mut changed = slices.clone();
    changed[50].1 = "10.0.0.1 10.0.0.3";
    played.then(&world(&services, &changed), 1_000);
    assert_eq!(played.turn.planned, 2, "the one that changed and the one that wants its external address");
    assert!(played.turn.ops.len() <= 6, "{:?}", played.turn.ops);
}

#[test]
fn sem_017_the_first_by_name_keeps_an_address_and_a_cluster_address_goes_before_all() {
    let services = [
        ("a", "clusterIP: 10.96.0.1, externalIPs: [10.96.0.2, 192.0.2.9]"),
        ("b", "clusterIP: 10.96.0.2, externalIPs: [192.0.2.9]"),
        ("c", "clusterIP: 10.96.0.1"),
    ];
    let mut played = Played::first(&world(&services, &[]), Capacity::default());
    let belongs_to = |key: &str| format!("already belongs to Service default/{key}/TCP");
    assert_eq!(
        played.reasons(),
        [
            format!("Service default/a: spec.externalIPs: 10.96.0.2:80/TCP {}", belongs_to("b")),
            format!("Service default/b: spec.externalIPs: 192.0.2.9:80/TCP {}", belongs_to("a")),
            format!("Service default/c: spec.clusterIPs: 10.96.0.1:80/TCP {}", belongs_to("a")),
        ]
    );
    assert_eq!(played.book.tables().frontends.len(), 3);
    // The owner goes, and the rivals get their frontends.
    played.then(&world(&services[1..], &[]), 1_000);
    assert_eq!(played.reasons(), [] as [&str; 0]);
    assert_eq!(played.book.tables().frontends.len(), 3);
}

#[test]
fn sem_124_only_udp_frontends_with_an_endpoint_that_serves_say_where_flows_may_stay() {
    let ports = "ports: [{name: '', protocol: UDP, port: 53}]";
    let serving = |slice: &str| {
        let service = "{metadata: {name: dns}, spec: {clusterIP: 10.96.0.1, ports: [
            {port: 53, protocol: UDP, nodePort: 30053}, {name: tcp, port: 53}]}}";
        let slice = format!(
            "{{metadata: {{name: s, labels: {{kubernetes.io/service-name: dns}}}}, addressType: IPv4, {ports},
            endpoints: [{slice}]}}"
        );
        let store = store(&[service.to_owned()], &[slice]);
        let book = Played::first(store.world(), Capacity::default()).book;
        let line = |(f, set): (&Frontend, &Arc<BTreeSet<SocketAddr>>)| {
            let set: Vec<String> = set.iter().map(ToString::to_string).collect();
            format!("{} {}", crate::plan::render::frontend_text(f), set.join(" "))
        };
        book.serving().iter().map(line).collect::<Vec<_>>()
    };
    // Terminating and serving, ready and not serving, neither.
    let mixed = "{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}},
        {addresses: [10.0.0.2], conditions: {ready: true, serving: false}},
        {addresses: [10.0.0.3], conditions: {ready: false, serving: false}}";
    assert_eq!(
        serving(mixed),
        ["node-port:30053/UDP/IPv4 10.0.0.1:53 10.0.0.2:53", "10.96.0.1:53/UDP 10.0.0.1:53 10.0.0.2:53"]
    );
    assert!(serving("{addresses: [10.0.0.3], conditions: {ready: false, serving: false}}").is_empty());
}

#[test]
fn sem_124_only_a_set_that_loses_an_endpoint_can_make_a_udp_flow_stale() {
    let udp = "clusterIP: 10.96.0.1, ports: [{port: 80, protocol: UDP}]";
    let service = |addresses: &str| {
        let slice = format!(
            "{{metadata: {{name: s, labels: {{kubernetes.io/service-name: a}}}}, addressType: IPv4,
            ports: [{{name: '', port: 80, protocol: UDP}}], endpoints: [{addresses}]}}"
        );
        store(&[format!("{{metadata: {{name: a}}, spec: {{{udp}}}}}")], &[slice]).world().clone()
    };
    let mut played = Played::first(&service("{addresses: [10.0.0.1]}"), Capacity::default());
    let start = played.book.udp_losses();
    let mut losses = |addresses: &str| played.then(&service(addresses), 0).book.udp_losses() - start;
    assert_eq!(losses("{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}"), 0, "one more");
    assert_eq!(losses("{addresses: [10.0.0.2]}"), 1, "one less");
    assert_eq!(losses(""), 1, "without endpoints flows are left alone (PAR-195)");
    assert_eq!(losses("{addresses: [10.0.0.3]}"), 2, "now the flows to the old ones are stale");
}

#[test]
fn sem_233_clients_keep_listed_endpoints_and_their_ids_live_as_long() {
    let affine = "clusterIP: 10.96.0.1, sessionAffinity: ClientIP";
    let plain = |slices: &[(&str, &str)]| world(&[("a", affine), ("b", "clusterIP: 10.96.0.2")], slices);
    let ids = |played: &Played| -> Vec<(u32, Vec<u32>)> {
        let list = |ids: &BTreeSet<BackendId>| ids.iter().map(|id| id.0).collect();
        played.book.affinity_backends().iter().map(|(service, ids)| (service.0, list(ids))).collect()
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
        store(&[service], &[yaml]).world().clone()
    };
    let mut played = Played::first(&three(is_ready), Capacity::default());
    assert_eq!(ids(&played), [(1, vec![1, 2, 3])]);
    let losses = played.book.affinity_losses();
    // An endpoint that is not ready is not chosen, and yet keeps its clients.
    played.then(&three(unready), 0);
    assert_eq!((played.book.tables().backends.len(), ids(&played)), (2, vec![(1, vec![1, 2, 3])]));
    played.then(&three(is_ready), 0);
    assert_eq!((played.book.tables().backends.len(), ids(&played)), (3, vec![(1, vec![1, 2, 3])]));
    assert_eq!(played.book.affinity_losses(), losses);
    // An endpoint that comes back after its removal counts as a new one.
    played.then(&plain(&[("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.9")]), 0);
    assert_eq!(ids(&played), [(1, vec![1, 2])]);
    assert_eq!(played.book.affinity_losses(), losses + 1);
    played.then(&plain(&[("a", "10.0.0.1 10.0.0.2 10.0.0.3")]), 0);
    assert_eq!(ids(&played), [(1, vec![1, 2, 5])]);
    // Without affinity no client keeps its backend (SEM-235).
    played.then(&world(&[("a", "clusterIP: 10.96.0.1")], &[("a", "10.0.0.1")]), 0);
    assert_eq!((ids(&played), played.book.affinity_losses()), (vec![], losses + 2));
}

#[test]
fn a_full_table_names_the_service_and_spares_the_others() {
    let capacity = Capacity { selection: 4, ..Capacity::default() };
    let services = [("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")];
    let mut played =
        Played::first(&world(&services, &[("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.3")]), capacity);
    let (a, b) = (played.entry("10.96.0.1"), played.entry("10.96.0.2"));
    let new = world(&services, &[("a", "10.0.0.1 10.0.0.5"), ("b", "10.0.0.4")]);
    played.then(&new, 0);
    let full = "Service default/a: spec.ports[]: the selection table is full (4 entries): it keeps its earlier endpoints";
    assert_eq!(played.reasons(), [full]);
    assert_eq!(played.entry("10.96.0.1"), a);
    assert_ne!(played.entry("10.96.0.2"), b);
    // Only the selection table: clients of a ClusterIP choose without a Maglev table.
    let wanted = played.book.wanted_capacity(u32::MAX).unwrap();
    assert_eq!((wanted.selection, wanted.maglev), (16, capacity.maglev));
    // The place of b becomes free, but there are still no two free places in a row.
    played.book.release(PlanTime(1));
    assert_eq!(played.book.next_try(PlanTime(1)), Some(PlanTime(1 + GRACE_MILLIS)));
    played.then(&new, 1 + GRACE_MILLIS);
    assert_eq!((played.reasons(), played.entry("10.96.0.1")), (vec![full.to_owned()], a));
    // The table grows.
    played.book.grow(Capacity { selection: 8, ..capacity });
    assert_eq!(played.book.next_try(PlanTime(2)), Some(PlanTime(2)));
    played.then(&new, 2);
    assert_eq!(played.reasons(), [] as [&str; 0]);
    assert_ne!(played.entry("10.96.0.1"), a);
    assert_eq!(played.book.next_try(PlanTime(3)), None);
}

#[test]
fn a_service_without_room_is_served_once_another_one_goes() {
    let capacity = Capacity { frontends: 1, ..Capacity::default() };
    let services = [("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")];
    let mut played = Played::first(&world(&services, &[]), capacity);
    assert_eq!(played.book.waiting().map(ToString::to_string).collect::<Vec<_>>(), ["default/b"]);
    played.then(&world(&services[1..], &[]), 0);
    // Make before break: the room is free only after the turn that removes the other Service, and the next turn is due
    // at once.
    assert_eq!(played.book.next_try(PlanTime(0)), Some(PlanTime(0)));
    played.then(&world(&services[1..], &[]), 0);
    assert_eq!(played.book.waiting().count(), 0);
    assert_eq!(played.entry("10.96.0.2").service, ServicePortId(2));
}

#[test]
fn without_room_for_a_maglev_table_backends_are_chosen_at_random() {
    let capacity = Capacity { maglev: 1, ..Capacity::default() };
    let external = |n| format!("clusterIP: 10.96.0.{n}, externalIPs: [192.0.2.{}]", 10 + n);
    let (a, b) = (external(1), external(2));
    let world = world(&[("a", &a), ("b", &b)], &[("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.3 10.0.0.4")]);
    let played = Played::first(&world, capacity);
    assert_eq!(
        played.reasons(),
        [
            "Service default/b: spec.ports[]: the maglev table is full (1 entries): backends are chosen at random"
        ]
    );
    assert_eq!((played.entry("192.0.2.11").maglev.count, played.entry("192.0.2.12").maglev.count), (1, 0));
    assert_eq!(played.book.tables().frontends.len(), 4);
}

#[test]
fn equal_sets_share_a_maglev_table_which_survives_a_restart_and_goes_with_its_last_user() {
    let external = |n| format!("clusterIP: 10.96.0.{n}, externalIPs: [192.0.2.{}]", 10 + n);
    let (a, b) = (external(1), external(2));
    let slices = [("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.2 10.0.0.1")];
    let both = world(&[("a", &a), ("b", &b)], &slices);
    let first = Played::first(&both, Capacity::default());
    assert_eq!(first.book.tables().maglevs.len(), 1);
    assert_eq!(first.entry("192.0.2.11").maglev, first.entry("192.0.2.12").maglev);
    let mut again = Played::over(first.book.tables().clone(), &both, Capacity::default());
    assert_eq!(again.turn.ops, []);
    again.then(&world(&[("b", &b)], &slices), 0);
    assert_eq!(again.book.tables().maglevs.len(), 1);
    again.then(&world(&[], &[]), 0);
    assert_eq!((again.book.tables().maglevs.len(), again.book.tables().extents.len()), (0, 0));
}

#[test]
fn a_service_that_does_not_fit_the_first_time_is_not_served() {
    let world = world(
        &[("a", "clusterIP: 10.96.0.1"), ("b", "clusterIP: 10.96.0.2")],
        &[("a", "10.0.0.1 10.0.0.2"), ("b", "10.0.0.3")],
    );
    for (capacity, served) in [
        (Capacity { backends: 2, ..Capacity::default() }, "10.96.0.2"),
        (Capacity { services: 2, ..Capacity::default() }, "10.96.0.1"),
        (Capacity { frontends: 1, ..Capacity::default() }, "10.96.0.1"),
        (Capacity { selection: 2, ..Capacity::default() }, "10.96.0.1"),
    ] {
        let played = Played::first(&world, capacity);
        assert_eq!(played.reasons().len(), 1, "{capacity:?} {:?}", played.reasons());
        let frontends = &played.book.tables().frontends;
        let served_now: Vec<String> = frontends.keys().map(|f| f.addr.to_string()).collect();
        assert_eq!(served_now, [served], "{capacity:?}");
    }
}

#[test]
fn a_service_without_room_leaves_nothing_of_itself_in_any_table() {
    let node = Played::first(&world(&[], &[]), Capacity::default()).book.tables().clone();
    let capacity = Capacity { addresses: node.addresses.len() as u32 + 1, ..Capacity::default() };
    let two = "clusterIP: 10.96.0.1, externalIPs: [198.51.100.1]";
    let played = Played::first(&world(&[("a", two)], &[("a", "10.0.0.1")]), capacity);
    assert_eq!(
        played.reasons(),
        ["Service default/a: spec.ports[]: the address table is full (3 entries): it is not served"]
    );
    assert_eq!(*played.book.tables(), node);
}

#[test]
fn a_service_port_that_begins_with_an_id_resets_its_counters() {
    let world = world(&[("a", "clusterIP: 10.96.0.1")], &[]);
    let first = Played::first(&world, Capacity::default());
    assert_eq!(first.turn.ops[0], MapOp::ResetService(ServicePortId(1)));
    let again = Played::over(first.book.tables().clone(), &world, Capacity::default());
    assert_eq!(again.turn.ops, [], "it has its id from before the restart, and its counters");
}

#[test]
fn an_external_address_of_another_service_makes_no_drift() {
    let local = "clusterIP: 10.96.0.2, externalIPs: [192.0.2.9], internalTrafficPolicy: Local";
    let services = [("a", "clusterIP: 10.96.0.1, externalIPs: [192.0.2.9]"), ("b", local)];
    let played = Played::first(&world(&services, &[("b", "10.0.0.1 10.0.0.2")]), Capacity::default());
    let tables = played.book.tables();
    let named: BTreeSet<Extent> = tables.frontends.values().flat_map(|e| [e.cluster, e.local]).collect();
    assert!(tables.extents.keys().all(|extent| named.contains(extent)), "{}", render(tables));
}

#[test]
fn a_table_whose_free_runs_are_too_short_is_doubled() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let specs: Vec<(String, String)> =
        (1..=8).map(|n| (format!("clusterIP: 10.96.0.{n}"), format!("10.0.0.{n} 10.0.1.{n}"))).collect();
    let rows: Vec<_> =
        names.iter().zip(&specs).map(|(name, (spec, pods))| (*name, &**spec, &**pods)).collect();
    let world_of = |rows: &[(&str, &str, &str)]| {
        let services: Vec<_> = rows.iter().map(|(name, spec, _)| (*name, *spec)).collect();
        let slices: Vec<_> = rows.iter().map(|(name, _, pods)| (*name, *pods)).collect();
        world(&services, &slices)
    };
    let mut played = Played::first(&world_of(&rows), Capacity { selection: 16, ..Capacity::default() });
    let mut rest: Vec<_> = rows.into_iter().step_by(2).collect();
    played.then(&world_of(&rest), 1_000).then(&world_of(&rest), 2_000);
    rest.push(("i", "clusterIP: 10.96.0.9", "10.0.0.9 10.0.1.9 10.0.2.9"));
    played.then(&world_of(&rest), 3_000);
    assert_eq!(played.reasons().len(), 1, "eight of sixteen places are free, and no three in a row");
    assert_eq!(played.book.wanted_capacity(u32::MAX).map(|wanted| wanted.selection), Some(32));
}
