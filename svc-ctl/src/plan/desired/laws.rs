//! What no sequence of worlds, failures and restarts may break: a frontend always leads to the whole set of backends of
//! its old or of its new state, never to a mixture, in tables that are flat arrays as the kernel's.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};

use proptest::prelude::*;
use svc_common::abi::{AddressFlags, BackendId, FrontendFlags, Scope};
use svc_common::addr::Proto;

use super::*;
use crate::model::endpoint::{Endpoint, SlicePort};
use crate::model::name::{IpFamily, SliceKey};
use crate::model::node::{NodeAddresses, NodeInfo};
use crate::model::service::{Service, ServiceAddresses, ServicePort};
use crate::plan::diff::plan_diff;
use crate::plan::ids::Capacity;
use crate::plan::tables::{Frontend, FrontendEntry, MapOp};

/// Small, so that places and numbers are used again and sometimes run out.
const CAPACITY: Capacity =
    Capacity { frontends: 16, backends: 12, selection: 14, services: 6, addresses: 8, prefixes: 4 };

/// One state of the world: per service (if it exists) which endpoints it has, and its external policy.
type State = Vec<Option<(u8, bool)>>;

#[derive(Clone, Debug)]
struct Step {
    state: State,
    /// The write at which the kernel fails, if it does.
    fails_at: Option<usize>,
    restart: bool,
    seconds: u64,
}

fn arb_step() -> impl Strategy<Value = Step> {
    let service = proptest::option::weighted(0.8, (any::<u8>(), any::<bool>()));
    (
        proptest::collection::vec(service, 4),
        proptest::option::weighted(0.3, 0_usize..12),
        proptest::bool::weighted(0.15),
        0_u64..4,
    )
        .prop_map(|(state, fails_at, restart, seconds)| Step { state, fails_at, restart, seconds })
}

fn snapshot(state: &State) -> Snapshot {
    let port = NonZeroU16::MIN;
    let mut snapshot = Snapshot {
        services: BTreeMap::new(),
        slices: BTreeMap::new(),
        node: NodeInfo::named("here"),
        addresses: NodeAddresses::default(),
    };
    for (n, (bits, external_local)) in state.iter().enumerate().filter_map(|(n, s)| Some((n, (*s)?))) {
        let name = ServiceName::new("default", &format!("s{n}"));
        let addresses = ServiceAddresses {
            cluster_ip: format!("10.96.0.{n}").parse().unwrap(),
            external_ips: vec![format!("192.0.2.{n}").parse().unwrap()],
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
        };
        let service = Service {
            name: name.clone(),
            created: None,
            families: vec![addresses],
            ports: vec![ServicePort { name: "".into(), proto: Proto::TCP, port, node_port: None }],
            internal_local: false,
            external_local,
            affinity: external_local.then_some(NonZeroU32::MIN),
            // A table needs more room than there is here.
            selection: Some(Selection::Random),
            health_check_port: None,
        };
        let endpoint = |bit: u8| Endpoint {
            addr: format!("10.0.0.{bit}").parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            node: bit.is_multiple_of(2).then(|| "here".into()),
            zone_hints: BTreeSet::new(),
            node_hints: BTreeSet::new(),
        };
        let slice = crate::model::endpoint::Slice {
            key: SliceKey::new("default", "slice"),
            service: name.clone(),
            family: IpFamily::V4,
            ports: vec![SlicePort { name: "".into(), proto: Proto::TCP, port }],
            endpoints: (0..8).filter(|bit| bits & (1 << bit) != 0).map(endpoint).collect(),
        };
        snapshot.slices.insert(name.clone(), vec![Arc::new(slice)]);
        snapshot.services.insert(name, Arc::new(service));
    }
    snapshot
}

type Leads = (u32, Vec<(IpAddr, u16)>, Vec<(IpAddr, u16)>);

/// Arrays that nobody clears, and a hash table, as in the kernel.
#[derive(Clone, Debug, Default)]
struct Kernel {
    selection: BTreeMap<u32, BackendId>,
    backends: BTreeMap<BackendId, Backend>,
    frontends: BTreeMap<Frontend, FrontendEntry>,
    addresses: BTreeMap<IpAddr, AddressFlags>,
}

impl Kernel {
    fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::PutBackend(id, backend) => drop(self.backends.insert(*id, *backend)),
            MapOp::PutExtent(extent, set) => self.selection.extend((extent.first..).zip(set.iter().copied())),
            MapOp::PutFrontend(frontend, entry) => drop(self.frontends.insert(*frontend, *entry)),
            MapOp::DeleteFrontend(frontend) => drop(self.frontends.remove(frontend)),
            MapOp::PutAddress(addr, flags) => drop(self.addresses.insert(*addr, *flags)),
            MapOp::DeleteAddress(addr) => drop(self.addresses.remove(addr)),
            MapOp::PutPrefix(_) | MapOp::DeletePrefix(_) => {}
            MapOp::FreeExtent(_) | MapOp::FreeBackend(..) => {}
        }
    }

    fn ids(&self, extent: Extent) -> Vec<BackendId> {
        (extent.first..extent.first + extent.count).map(|place| self.selection[&place]).collect()
    }

    /// What a packet finds.
    fn leads(&self) -> BTreeMap<Frontend, Leads> {
        let targets = |extent: Extent| -> Vec<(IpAddr, u16)> {
            let backend = |id: &BackendId| self.backends[id];
            let mut list: Vec<_> = self.ids(extent).iter().map(backend).map(|b| (b.addr, b.port)).collect();
            list.sort_unstable();
            list
        };
        let lead = |e: &FrontendEntry| (e.flags.0, targets(e.cluster), targets(e.local));
        self.frontends.iter().map(|(&frontend, e)| (frontend, lead(e))).collect()
    }

    fn dump(&self) -> Tables {
        let (frontends, addresses) = (self.frontends.clone(), self.addresses.clone());
        let mut tables = Tables { frontends, addresses, ..Tables::default() };
        for entry in self.frontends.values() {
            for extent in [entry.cluster, entry.local].into_iter().filter(|e| e.count > 0) {
                let set = self.ids(extent);
                tables.backends.extend(set.iter().map(|id| (*id, self.backends[id])));
                tables.extents.insert(extent, set);
            }
        }
        tables
    }
}

/// What a frontend should lead to, without ids.
fn wanted(state: &State, frontend: &Frontend) -> Option<Leads> {
    let IpAddr::V4(addr) = frontend.addr else { return None };
    let [first, .., n] = addr.octets();
    let (bits, external_local) = (*state.get(usize::from(n))?)?;
    let list = |even_only: bool| -> Vec<(IpAddr, u16)> {
        let bits = (0..8_u8).filter(|b| bits & (1 << b) != 0 && (!even_only || b.is_multiple_of(2)));
        bits.map(|b| (format!("10.0.0.{b}").parse().unwrap(), 1)).collect()
    };
    let is_external = first == 192;
    let mut flags = if bits == 0 { FrontendFlags::NONE } else { FrontendFlags::USABLE_ELSEWHERE };
    if is_external {
        flags = flags.with(FrontendFlags::EXTERNAL);
    }
    if is_external && external_local {
        flags = flags.with(FrontendFlags::LOCAL_ONLY);
        return Some((flags.0, list(false), list(true)));
    }
    if is_external {
        flags = flags.with(FrontendFlags::MASQUERADE_PODS);
    }
    Some((flags.with(FrontendFlags::MASQUERADE_OTHERS).0, list(false), Vec::new()))
}

proptest! {
    #[test]
    fn a_frontend_leads_to_its_old_or_its_new_backends_and_to_nothing_else(
        steps in proptest::collection::vec(arb_step(), 1..12)
    ) {
        let mut kernel = Kernel::default();
        let mut ids = Ids::restored(&Tables::default(), CAPACITY);
        let mut now = Tick(0);
        // The backends that somebody may stay with, as the kernel's affinity tables name them.
        let mut stayed: BTreeMap<BackendId, (IpAddr, u16)> = BTreeMap::new();
        for step in steps {
            now.0 += step.seconds;
            let actual = kernel.dump();
            if step.restart {
                ids = Ids::restored(&actual, CAPACITY);
                // Numbers that no table shows are forgotten. If one is given out before the daemon has removed who stays
                // with it, a client goes to a backend that may be chosen as well as any.
                stayed.clear();
            }
            let planned = plan_tables(&snapshot(&step.state), &Settings::default(), &actual, ids, now);
            ids = planned.ids;
            let (before, mut failed) = (kernel.leads(), false);
            for (n, op) in plan_diff(&actual, &planned.tables).iter().enumerate() {
                failed = step.fails_at == Some(n);
                if failed {
                    break;
                }
                kernel.apply(op);
                for (frontend, lead) in kernel.leads() {
                    prop_assert_eq!(frontend.scope, Scope::ADDRESS);
                    let is_old = before.get(&frontend) == Some(&lead);
                    let is_new = wanted(&step.state, &frontend).as_ref() == Some(&lead);
                    prop_assert!(is_old || is_new, "{:?} after {:?}: {:?}", frontend, op, lead);
                }
            }
            if !failed {
                prop_assert_eq!(&kernel.dump(), &planned.tables);
                prop_assert!(planned.is_full || kernel.leads().len() == 2 * step.state.iter().flatten().count());
                ids.release(now);
                stayed.retain(|id, _| planned.stays.values().any(|ids| ids.contains(id)));
                for (id, backend) in &planned.tables.backends {
                    let target = (backend.addr, backend.port);
                    prop_assert_eq!(*stayed.get(id).unwrap_or(&target), target, "{:?} is another one now", id);
                }
                for id in planned.stays.values().flatten() {
                    let backend = planned.tables.backends.get(id);
                    stayed.extend(backend.map(|b| (*id, (b.addr, b.port))));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_now_fits_when_places_have_come_free(state in arb_step()) {
        // Any single state fits into tables that hold twice as much: the other half is for the change.
        let capacity = Capacity { frontends: 16, backends: 17, selection: 200, services: 9, addresses: 8, prefixes: 4 };
        let mut ids = Ids::restored(&Tables::default(), capacity);
        let mut actual = Tables::default();
        for round in 0..4 {
            let planned =
                plan_tables(&snapshot(&state.state), &Settings::default(), &actual, ids, Tick(round * 10));
            prop_assert!(!planned.is_full);
            ids = planned.ids;
            ids.release(Tick(round * 10));
            actual = planned.tables;
        }
    }
}
