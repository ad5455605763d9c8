//! Laws that hold after any sequence of changes, failures, restarts and growth. The book is held against a plan from scratch that
//! knows no ids, and each prefix of its ops against flat arrays as the kernel's.

use std::num::{NonZeroU16, NonZeroU32};

use proptest::prelude::*;
use svc_common::abi::{AddressFlags, FrontendFlags};
use svc_common::addr::Proto;

use super::*;
use crate::model::endpoint::{Endpoint, Hints, Hostnames, PodNames, Slice, SlicePort, Triggered};
use crate::model::name::{IpFamily, SliceKey};
use crate::model::node::{NodeAddresses, NodeInfo};
use crate::model::service::{Selection, ServiceAddresses, ServicePort};
use crate::plan::entry::Shared;
use crate::plan::maglev::digest;
use crate::plan::page::{plan_endpoints, policy_of};
use crate::plan::prefixes::{is_node_in_ranges, source_ranges};
use crate::plan::tables::{Backend, FrontendEntry};
use crate::plan::time::GRACE_MILLIS;

/// Small, so that places and numbers are used again and sometimes run out.
const SMALL: Capacity = Capacity {
    frontends: 16,
    backends: 12,
    selection: 14,
    maglev: 2,
    services: 6,
    addresses: 12,
    prefixes: 4,
};

/// A Service, described by small numbers.
#[derive(Clone, Debug)]
struct Sketch {
    /// Endpoints 0 to 7; even ones are on this node.
    endpoints: u8,
    slices: u8,
    external_local: bool,
    internal_local: bool,
    affinity: bool,
    node_port: bool,
    ranges: bool,
    maglev: bool,
    /// An external address that other Services may want too.
    external: u8,
    udp: bool,
    families: &'static [IpFamily],
}

const FAMILIES: [&[IpFamily]; 3] = [&[IpFamily::V4], &[IpFamily::V6], &[IpFamily::V4, IpFamily::V6]];

fn arb_sketch() -> impl Strategy<Value = Sketch> {
    (any::<u8>(), 0_u8..3, any::<[bool; 7]>(), 0_u8..6, any::<bool>(), 0_usize..3).prop_map(
        |(
            endpoints,
            slices,
            [external_local, internal_local, affinity, node_port, ranges, maglev, udp],
            external,
            few,
            families,
        )| {
            let endpoints = if few { endpoints & 0x0f } else { endpoints };
            Sketch {
                endpoints,
                slices,
                external_local,
                internal_local,
                affinity,
                node_port,
                ranges,
                maglev,
                external,
                udp,
                families: FAMILIES[families],
            }
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    /// Service number, and its new state.
    Service(u8, Option<Sketch>),
    /// The node has this address, and is in this zone.
    Node(u8, bool),
    Restart,
    Grow,
}

fn arb_step() -> impl Strategy<Value = (Step, u64)> {
    let service =
        (0_u8..5, proptest::option::weighted(0.8, arb_sketch())).prop_map(|(n, s)| Step::Service(n, s));
    let node = (0_u8..3, any::<bool>()).prop_map(|(n, z)| Step::Node(n, z));
    let step = prop_oneof![12 => service, 2 => node, 1 => Just(Step::Restart), 1 => Just(Step::Grow)];
    (step, 0_u64..2 * GRACE_MILLIS)
}

/// The address with this text, or the address of the same text in IPv6.
fn at(family: IpFamily, v4: &str) -> std::net::IpAddr {
    let v4: std::net::Ipv4Addr = v4.parse().unwrap();
    match family {
        IpFamily::V4 => v4.into(),
        IpFamily::V6 => {
            let [a, b, c, d] = v4.octets().map(u16::from);
            std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, a, b, c, d).into()
        }
    }
}

fn put(world: &mut World, n: u8, sketch: Option<&Sketch>) {
    let name = ServiceName::new("default", &format!("s{n}"));
    let Some(sketch) = sketch else {
        world.services.remove(&name);
        world.slices.remove(&name);
        return;
    };
    let proto = if sketch.udp { Proto::UDP } else { Proto::TCP };
    let addresses = |family: &IpFamily| ServiceAddresses {
        cluster_ip: at(*family, &format!("10.96.0.{n}")),
        external_ips: vec![at(*family, &format!("192.0.2.{}", sketch.external))],
        load_balancer_ips: vec![at(*family, &format!("198.51.100.{n}"))],
        source_ranges: sketch
            .ranges
            .then(|| at(*family, &format!("203.0.113.{n}")).into())
            .into_iter()
            .collect(),
    };
    let service = Service {
        name: name.clone(),
        created: Some(i64::from(n)),
        families: sketch.families.iter().map(addresses).collect(),
        ports: vec![ServicePort {
            name: "".into(),
            proto,
            port: NonZeroU16::MIN,
            node_port: sketch.node_port.then(|| NonZeroU16::new(30_000 + u16::from(n)).unwrap()),
        }],
        internal_local: sketch.internal_local,
        external_local: sketch.external_local,
        affinity: sketch.affinity.then_some(NonZeroU32::MIN),
        selection: (!sketch.maglev).then_some(Selection::Random),
        serves_own_address: false,
        health_check_port: None,
        labels: Arc::default(),
    };
    let endpoint = |family: IpFamily, bit: u8| Endpoint {
        addr: at(family, &format!("10.0.0.{bit}")),
        ready: bit != 7,
        serving: true,
        terminating: bit == 7,
        node: bit.is_multiple_of(2).then(|| "here".into()),
        hints: Hints::new((sketch.slices == 2).then(|| if bit < 4 { "a" } else { "b" }.into()), None),
    };
    let slice = |(family, k): (IpFamily, u8)| {
        let mine = (0..8).filter(|bit| sketch.endpoints & (1 << bit) != 0 && bit % 2 == k % 2);
        Arc::new(Slice {
            key: SliceKey::new("default", &format!("s{n}-{family:?}-{k}")),
            service: name.clone(),
            family,
            ports: vec![SlicePort { name: "".into(), proto, port: NonZeroU16::MIN }],
            endpoints: mine.map(|bit| endpoint(family, bit)).collect(),
            hostnames: Hostnames::default(),
            pods: PodNames::default(),
            is_headless: false,
            triggered: Triggered::default(),
        })
    };
    let slices = sketch.families.iter().flat_map(|family| [(*family, 0), (*family, 1)]).map(slice);
    world.slices.insert(name.clone(), slices.collect::<Vec<_>>().into());
    world.services.insert(name, Arc::new(service));
}

fn set_node(world: &mut World, n: u8, is_zoned: bool) {
    let node = NodeInfo { zone: is_zoned.then(|| "a".into()), ..NodeInfo::named("here") };
    world.node = Arc::new(node);
    // The address of one endpoint may be the node's own.
    let addrs = ["127.0.0.1".to_owned(), format!("10.0.0.{n}")];
    let both = |text: &String| [at(IpFamily::V4, text), at(IpFamily::V6, text)];
    let addrs = addrs.iter().flat_map(both).collect();
    world.addresses = Arc::new(NodeAddresses { addrs, ..NodeAddresses::default() });
}

/// The meaning of a frontend, without ids.
type Meaning = (ServicePortKey, u32, u32, [Vec<Backend>; 2], Option<(u32, u64)>);

/// The meaning of all tables, without ids.
#[derive(Debug, Default, PartialEq)]
struct Meanings {
    frontends: BTreeMap<Frontend, Meaning>,
    addresses: BTreeMap<std::net::IpAddr, AddressFlags>,
    prefixes: BTreeSet<(ServicePortKey, ipnet::IpNet)>,
}

/// The plan from scratch.
fn scratch(world: &World, settings: &Settings) -> Meanings {
    let mut all = Meanings::default();
    let mut claims = Claims::default();
    world.services.values().for_each(|service| claims.add(service));
    let own = plan_node_addresses(&settings.node_port_addresses, &world.node, &world.addresses);
    all.addresses.extend(own);
    // An entry that names the node of a backend has more information.
    let mut localities: BTreeMap<(std::net::IpAddr, u16), Locality> = BTreeMap::new();
    let ports = || world.services.values().flat_map(PortOf::all);
    let owned = |of: &PortOf| {
        let is_own = |claim: &super::super::frontends::Claim| {
            owner_of(claims.of(&claim.frontend), |_| false).is_some_and(|owner| owner.of == *of)
        };
        of.claims().into_iter().filter(is_own).collect::<Vec<_>>()
    };
    for of in ports() {
        let endpoints = plan_endpoints(world, &of);
        for (target, locality) in endpoints.cluster.iter().chain(&endpoints.local) {
            let known = localities.entry(*target).or_insert(*locality);
            *known = (*known).max(*locality);
        }
    }
    for of in ports() {
        let endpoints = plan_endpoints(world, &of);
        let is_node_in = is_node_in_ranges(of.addresses(), &world.node, &world.addresses);
        let shared = Shared {
            service: ServicePortId(0),
            policy: policy_of(&of),
            selection: of.service.selection,
            usable_anywhere: endpoints.usable_anywhere,
            cluster: Extent { first: 1, count: 1 },
            local: Extent { first: 2, count: 1 },
            maglev_cluster: Extent { first: 1, count: 1 },
            maglev_local: Extent { first: 2, count: 1 },
            affinity: of.service.affinity.map_or(0, NonZeroU32::get),
            masquerade: settings.masquerade,
            knows_pods: settings.local_pods.is_known(&world.node, IpFamily::V4),
            is_node_in_ranges: is_node_in,
        };
        for claim in owned(&of) {
            let entry = shared.entry(&claim);
            let list = |extent: Extent| -> Vec<Backend> {
                let targets = match extent.first {
                    1 => &endpoints.cluster,
                    2 => &endpoints.local,
                    _ => return Vec::new(),
                };
                let backend = |&((addr, port), _): &((std::net::IpAddr, u16), Locality)| Backend {
                    addr,
                    port,
                    locality: localities[&(addr, port)],
                };
                targets.iter().map(backend).collect()
            };
            let maglev = list(entry.maglev).len();
            let lists = [list(entry.cluster), list(entry.local)];
            let has_table = (maglev > 1).then_some((1, 0));
            let meaning = (of.key(), entry.flags.0, entry.affinity, lists, has_table);
            all.frontends.insert(claim.frontend, meaning);
            if claim.frontend.scope == Scope::ADDRESS {
                let flag = if claim.external { AddressFlags::EXTERNAL_IP } else { AddressFlags::CLUSTER_IP };
                let known = all.addresses.entry(claim.frontend.addr).or_default();
                *known = known.with(flag);
            }
            if claim.is_restricted {
                let nets = source_ranges(ServicePortId(0), of.addresses(), is_node_in);
                all.prefixes.extend(nets.into_iter().map(|p| (of.key(), p.net)));
            }
        }
    }
    all
}

/// Arrays that are never cleared, and hash tables, as in the kernel.
#[derive(Clone, Debug, Default)]
struct Kernel {
    selection: BTreeMap<u32, BackendId>,
    pages: BTreeMap<u32, (u32, u64)>,
    backends: BTreeMap<BackendId, Backend>,
    frontends: BTreeMap<Frontend, FrontendEntry>,
    addresses: BTreeMap<std::net::IpAddr, AddressFlags>,
    prefixes: BTreeSet<Prefix>,
}

impl Kernel {
    fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::PutBackend(id, backend) => drop(self.backends.insert(*id, *backend)),
            MapOp::PutExtent(extent, set) => self.selection.extend((extent.first..).zip(set.iter().copied())),
            MapOp::PutMaglev(pages, places) => {
                self.pages.insert(pages.first, (pages.count, digest(places)));
            }
            MapOp::PutFrontend(frontend, entry) => drop(self.frontends.insert(*frontend, *entry)),
            MapOp::DeleteFrontend(frontend) => drop(self.frontends.remove(frontend)),
            MapOp::PutAddress(addr, flags) => drop(self.addresses.insert(*addr, *flags)),
            MapOp::DeleteAddress(addr) => drop(self.addresses.remove(addr)),
            MapOp::PutPrefix(prefix) => drop(self.prefixes.insert(*prefix)),
            MapOp::DeletePrefix(prefix) => drop(self.prefixes.remove(prefix)),
            MapOp::ResetService(_) | MapOp::FreeExtent(_) | MapOp::FreeMaglev(_) | MapOp::FreeBackend(..) => {
            }
        }
    }

    fn set(&self, extent: Extent) -> Vec<BackendId> {
        (extent.first..extent.first + extent.count).map(|place| self.selection[&place]).collect()
    }

    /// The backends that a packet finds, without the name of the service.
    fn leads(&self) -> BTreeMap<Frontend, FrontendExtents> {
        let list = |extent: Extent| -> Vec<Backend> {
            let mut list: Vec<Backend> = self.set(extent).iter().map(|id| self.backends[id]).collect();
            list.sort_unstable();
            list
        };
        let table = |e: Extent| (e.count > 0).then(|| self.pages[&e.first]);
        let extents =
            |e: &FrontendEntry| (e.flags.0, e.affinity, [list(e.cluster), list(e.local)], table(e.maglev));
        self.frontends.iter().map(|(&frontend, e)| (frontend, extents(e))).collect()
    }

    fn dump(&self) -> Tables {
        let mut tables = Tables {
            frontends: self.frontends.clone(),
            addresses: self.addresses.clone(),
            prefixes: self.prefixes.clone(),
            ..Tables::default()
        };
        for entry in self.frontends.values() {
            for extent in [entry.cluster, entry.local].into_iter().filter(|e| e.count > 0) {
                let set = self.set(extent);
                tables.backends.extend(set.iter().map(|id| (*id, self.backends[id])));
                tables.extents.insert(extent, set.into());
            }
            if entry.maglev.count > 0 {
                tables.maglevs.insert(entry.maglev, self.pages[&entry.maglev.first].1);
            }
        }
        tables
    }

    fn meanings(&self, book: &Book) -> Meanings {
        let keys: BTreeMap<ServicePortId, ServicePortKey> =
            book.services().iter().map(|(key, id)| (*id, key.clone())).collect();
        let named = |(frontend, (flags, affinity, lists, maglev)): (Frontend, FrontendExtents)| {
            let key = keys[&self.frontends[&frontend].service].clone();
            (frontend, (key, flags, affinity, lists, maglev.map(|(pages, _)| (pages, 0))))
        };
        let prefixes = self.prefixes.iter().map(|p| (keys[&ServicePortId(p.list.0)].clone(), p.net));
        Meanings {
            frontends: self.leads().into_iter().map(named).collect(),
            addresses: self.addresses.clone(),
            prefixes: prefixes.collect(),
        }
    }
}

/// Plays steps on a book and a kernel; after each one, and after every prefix of its ops, the laws hold.
fn play(steps: Vec<(Step, u64)>, mut capacity: Capacity) -> Result<bool, TestCaseError> {
    let (mut kernel, mut world) = (Kernel::default(), World::default());
    set_node(&mut world, 0, false);
    let mut planned: Option<World> = None;
    let mut book = Book::new(kernel.dump(), capacity, Settings::default());
    let (mut now, mut was_full) = (0, false);
    for (step, millis) in steps {
        now += millis;
        match step {
            Step::Service(n, sketch) => put(&mut world, n, sketch.as_ref()),
            Step::Node(n, zone) => set_node(&mut world, n, zone),
            Step::Restart => {
                book = Book::new(kernel.dump(), capacity, Settings::default());
                planned = None;
                now = 0;
            }
            Step::Grow => {
                let Some(more) = book.wanted_capacity(64) else { continue };
                capacity = more;
                book.grow(capacity);
            }
        }
        // Until nothing is to be done at once.
        for _ in 0..3 {
            let changes =
                planned.as_ref().map_or_else(Changes::default, |before| Changes::between(before, &world));
            let turn = book.turn(&world, &changes, PlanTime(now));
            planned = Some(world.clone());
            let before = kernel.leads();
            let target = {
                let mut after = kernel.clone();
                turn.ops.iter().for_each(|op| after.apply(op));
                after.leads()
            };
            for op in &turn.ops {
                kernel.apply(op);
                for (frontend, extents) in kernel.leads() {
                    let is_old = before.get(&frontend) == Some(&extents);
                    let is_new = target.get(&frontend) == Some(&extents);
                    // The locality of a backend changes in place.
                    let is_moved =
                        matches!(op, MapOp::PutBackend(..)) || is_relocated(&extents, before.get(&frontend));
                    prop_assert!(
                        is_old || is_new || is_moved,
                        "{:?} after {:?}: {:?}",
                        frontend,
                        op,
                        extents
                    );
                }
            }
            let tables = book.tables();
            prop_assert_eq!(
                &kernel.dump(),
                tables,
                "the kernel holds the book's tables, and every entry is named"
            );
            book.release(PlanTime(now));
            if book.next_try(PlanTime(now)).is_none_or(|at| at.0 > now) {
                break;
            }
        }
        let is_full = book.waiting().count() > 0;
        was_full |= is_full;
        if !is_full {
            prop_assert_eq!(kernel.meanings(&book), scratch(&world, &Settings::default()));
        }
        let used = book.fills();
        prop_assert!(used.iter().all(|fill| fill.used <= fill.capacity), "{:?}", used);
    }
    Ok(was_full)
}

type FrontendExtents = (u32, u32, [Vec<Backend>; 2], Option<(u32, u64)>);

fn is_relocated(now: &FrontendExtents, before: Option<&FrontendExtents>) -> bool {
    let targets = |extents: &FrontendExtents| {
        let list = |l: &Vec<Backend>| l.iter().map(|b| (b.addr, b.port)).collect::<Vec<_>>();
        (extents.0, extents.1, extents.2.each_ref().map(list), extents.3)
    };
    before.is_some_and(|before| targets(before) == targets(now))
}

proptest! {
    #[test]
    fn sem_267_after_any_changes_the_tables_are_those_of_a_plan_from_scratch(
        steps in proptest::collection::vec(arb_step(), 1..24)
    ) {
        let was_full = play(steps, Capacity { maglev: 64, ..Capacity::default() })?;
        prop_assert!(!was_full);
    }

    #[test]
    fn full_tables_and_restarts_leave_every_frontend_whole(steps in proptest::collection::vec(arb_step(), 1..24)) {
        play(steps, SMALL)?;
    }
}

#[test]
fn if_two_services_disagree_on_the_node_of_a_backend_the_one_that_names_it_wins() {
    let mut world = World::default();
    set_node(&mut world, 9, false);
    let sketch = Sketch {
        endpoints: 0b100,
        slices: 0,
        external_local: false,
        internal_local: false,
        affinity: false,
        node_port: false,
        ranges: false,
        maglev: false,
        external: 1,
        udp: false,
        families: FAMILIES[0],
    };
    put(&mut world, 0, Some(&sketch));
    put(&mut world, 1, Some(&sketch));
    // The second one does not name the node.
    let key = ServiceName::new("default", "s1");
    let nameless: Vec<Arc<Slice>> = world.slices[&key]
        .iter()
        .map(|slice| {
            let mut slice = Slice::clone(slice);
            slice.endpoints.iter_mut().for_each(|e| e.node = None);
            Arc::new(slice)
        })
        .collect();
    world.slices.insert(key, nameless.into());
    let mut book = Book::new(Tables::default(), Capacity::default(), Settings::default());
    book.turn(&world, &Changes::default(), PlanTime(0));
    let locality = |book: &Book| book.tables().backends.values().map(|b| b.locality).collect::<Vec<_>>();
    assert_eq!(locality(&book), [Locality::LOCAL]);
    let before = world.clone();
    put(&mut world, 0, None);
    book.turn(&world, &Changes::between(&before, &world), PlanTime(0));
    assert_eq!(locality(&book), [Locality::REMOTE]);
    assert!(book.tables().frontends.values().all(|e| e.flags.has(FrontendFlags::USABLE_ELSEWHERE)));
}
