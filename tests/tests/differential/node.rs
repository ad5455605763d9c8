//! svc's side: Kubernetes' objects go through svc's own model and plan into the tables, packets through its programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, anyhow};
use ipnet::IpNet;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use svc_ctl::dataplane::complete_presence::complete_presence;
use svc_ctl::dataplane::flows;
use svc_ctl::dataplane::object::OBJECT;
use svc_ctl::dataplane::store::MapStore as _;
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::service::Selection;
use svc_ctl::model::store::Store;
use svc_ctl::plan::book::{Book, Changes};
use svc_ctl::plan::capacity::Capacity;
use svc_ctl::plan::entry::Masquerade;
use svc_ctl::plan::node_ports::NodePortAddresses;
use svc_ctl::plan::prefixes::{Cidrs, LocalPods};
use svc_ctl::plan::settings::Settings;
use svc_ctl::plan::tables::Tables;
use svc_ctl::plan::time::PlanTime;
use svc_ctl::reconcile::InForce;
use svc_ctl::source::event::{Event, SourceEvent};
use svc_ctl::sweeper::remove_stale;
use svc_tests::model::network::{NODE, POOL, SERVICE_CIDR, at};
use svc_tests::model::objects;
use svc_tests::model::world::{self, NodePorts, THIS_NODE, World};
use svc_tests::packet::affinity;
use svc_tests::packet::kernel::Kernel;

/// SNAT ports: first and number. Few, so that they are used up.
pub const SNAT_PORTS: (u16, u16) = (20_000, 37);

pub struct Node {
    pub kernel: Kernel,
    affinity: affinity::Tables,
    book: Book,
    /// Seconds of the plan's clock; every change is far from the last one.
    clock: u64,
    /// Number of worlds so far.
    worlds: u64,
}

impl Node {
    pub fn new(mutant: Option<&[u8]>) -> Result<Self> {
        // Errors are limited per CPU.
        let mut cpu = CpuSet::new();
        cpu.set(0)?;
        sched_setaffinity(Pid::from_raw(0), &cpu).context("staying on one CPU")?;
        let kernel = Kernel::with_object(mutant.unwrap_or(OBJECT), SNAT_PORTS)?;
        let affinity = affinity::Tables::open(&kernel.pins)?;
        let book = Book::new(Tables::default(), Capacity::default(), Settings::default());
        Ok(Self { kernel, affinity, book, clock: 0, worlds: 3 })
    }

    /// Removes all state of flows, and prepares the presence filter for the next world.
    pub fn forget(&mut self) -> Result<()> {
        self.worlds += 1;
        match self.worlds % 4 {
            // The world's own marks and no others.
            0 => {
                self.kernel.clear()?;
                self.book = Book::new(Tables::default(), Capacity::default(), Settings::default());
            }
            // Everything is marked: the filter lets every packet through to the tables.
            1 => self.kernel.store.0.presence.fill(u64::MAX)?,
            // The pin of the filter was lost.
            2 => {
                self.kernel.store.0.presence.fill(0)?;
                complete_presence(&mut self.kernel.store.0)?;
            }
            _ => {}
        }
        self.kernel.clear_flows()?;
        remove_stale(&self.kernel.pins, &InForce::default())?;
        Ok(())
    }

    /// Applies Kubernetes' objects: plans, writes the difference, and ends flows that may not stay.
    pub fn apply(&mut self, world: &World) -> Result<()> {
        self.kernel.write_interfaces(
            world.has_pod_addresses,
            world.settings.knows_pods,
            svc_common::abi::IfaceFlags::NONE,
        )?;
        let mut store = Store::new(THIS_NODE);
        store.set_addresses(addresses());
        for event in events(world)? {
            store.take(event);
        }
        anyhow::ensure!(store.is_synced(), "the lists are not complete");
        let refused = store.take_complaints();
        anyhow::ensure!(refused.is_empty(), "svc refuses an object: {refused:?}");
        let node_port_addresses = match world.node_ports {
            NodePorts::All => NodePortAddresses::default(),
            NodePorts::Primary => NodePortAddresses::primary(),
        };
        let cidrs = [true, false].map(|is_v4| prefix(SERVICE_CIDR, is_v4));
        let settings = Settings {
            node_port_addresses,
            masquerade: Masquerade {
                all: world.settings.masquerade_all,
                to_local: world.settings.masquerade_to_local,
            },
            local_pods: if world.settings.knows_pods { LocalPods::ByInterface } else { LocalPods::Unknown },
            service_cidrs: Cidrs(cidrs.into_iter().filter(|_| world.settings.has_service_cidr).collect()),
            pools: [true, false]
                .into_iter()
                .filter(|_| world.settings.has_pools)
                .map(|is_v4| prefix(POOL, is_v4))
                .collect(),
            selection: world.settings.selection.map(|selection| match selection {
                world::Selection::Random => Selection::Random,
                world::Selection::Maglev => Selection::Maglev,
            }),
        };
        self.clock += 10_000;
        self.book.set_settings(settings);
        let all = Changes { node: true, ..Changes::default() };
        let turn = self.book.turn(store.world(), &all, PlanTime(self.clock));
        let problems: Vec<_> = turn.complaints.into_iter().flat_map(|(_, list)| list).collect();
        anyhow::ensure!(problems.is_empty(), "the plan has problems: {problems:?}");
        let failed = self.kernel.store.apply(&turn.ops);
        failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))?;
        self.book.release(PlanTime(self.clock));
        remove_stale(&self.kernel.pins, &InForce::of(&self.book, &store.world().addresses))?;
        Ok(())
    }

    /// That many ticks pass, for flows and session affinity.
    pub fn age(&mut self, ticks: u32) -> Result<()> {
        // A tick is 2^30 ns, a unit of session affinity 2^26.
        self.kernel.age_flows(ticks)?;
        self.affinity.age(ticks << 4)
    }

    /// Destinations of clients' packets according to the records, as `PROTO FROM > TO`.
    pub fn records(&self) -> Result<Vec<flows::Flow>> {
        flows::list(&self.kernel.pins)
    }
}

fn prefix((octets, bits): ([u8; 4], u8), is_v4: bool) -> IpNet {
    let net = IpNet::new(at(octets, is_v4), if is_v4 { bits } else { 96 + bits });
    net.unwrap_or_else(|error| panic!("a prefix of ours: {error}"))
}

fn addresses() -> NodeAddresses {
    let addrs: Vec<IpAddr> = NODE.iter().flat_map(|n| [at(*n, true), at(*n, false)]).collect();
    NodeAddresses {
        addrs: addrs.into_iter().chain([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]).collect(),
        primary_v4: None,
        primary_v6: None,
    }
}

fn events(world: &World) -> Result<Vec<SourceEvent>> {
    let object = |err| anyhow!("no Kubernetes object: {err}");
    let own: Vec<IpAddr> = [true, false].map(|is_v4| at(NODE[0], is_v4)).to_vec();
    let mut events = vec![
        SourceEvent::Node(Event::Init),
        SourceEvent::Node(Event::InitApply(
            serde_json::from_value(objects::node(world, &own)).map_err(object)?,
        )),
        SourceEvent::Node(Event::InitDone),
        SourceEvent::Service(Event::Init),
    ];
    for service in &world.services {
        let service = serde_json::from_value(objects::service(service)).map_err(object)?;
        events.push(SourceEvent::Service(Event::InitApply(service)));
    }
    events.extend([SourceEvent::Service(Event::InitDone), SourceEvent::Slice(Event::Init)]);
    for slice in &world.slices {
        let slice = serde_json::from_value(objects::slice(slice)).map_err(object)?;
        events.push(SourceEvent::Slice(Event::InitApply(slice)));
    }
    events.push(SourceEvent::Slice(Event::InitDone));
    Ok(events)
}
