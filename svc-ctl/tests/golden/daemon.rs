//! One daemon after another, driven by the steps of a case: from files to ops, written to the tables of the caller.

use std::collections::BTreeSet;
use std::sync::Arc;

use svc_ctl::dataplane::store::MapStore;
use svc_ctl::lb::settings::LoadBalancerSettings;
use svc_ctl::lb::unused::ranges;
use svc_ctl::model::complaint::Complaint;
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::store::Store;
use svc_ctl::model::world::World;
use svc_ctl::observe::health::ports::{HealthPorts, health_ports};
use svc_ctl::observe::ledger::Ledger;
use svc_ctl::plan::book::{Book, Changes};
use svc_ctl::plan::capacity::Capacity;
use svc_ctl::plan::settings::Settings;
use svc_ctl::plan::tables::Tables;
use svc_ctl::plan::time::{GRACE_MILLIS, PlanTime};
use svc_ctl::reconcile::InForce;
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::given::Given;
use svc_ctl::source::manifests::world::World as Objects;

use super::case::Case;

pub struct Daemon {
    node: String,
    addresses: NodeAddresses,
    settings: Settings,
    capacity: Capacity,
    files: Files,
    /// Pools of load-balancer addresses, and the addresses that Services were given.
    load_balancer: LoadBalancerSettings,
    given: Given,
    objects: Option<Objects>,
    model: Store,
    clock: PlanTime,
    /// Contents of the tables.
    book: Book,
    /// The world that the book has planned.
    planned: Option<World>,
    ledger: Ledger,
    report: Vec<Complaint>,
    health_ports: HealthPorts,
    /// Number of ops of the last edit.
    pub writes: usize,
}

impl Daemon {
    /// The first daemon, with empty tables.
    pub fn new() -> Self {
        let addrs =
            ["127.0.0.1", "192.168.0.2", "::1", "2001:db8::1"].map(|a| a.parse().expect("an address"));
        let capacity = Capacity::default();
        Self {
            node: "test-node".to_owned(),
            addresses: NodeAddresses { addrs: addrs.into(), ..NodeAddresses::default() },
            settings: Settings::default(),
            capacity,
            files: Files::default(),
            load_balancer: LoadBalancerSettings::default(),
            given: Given::default(),
            objects: None,
            model: Store::new("test-node"),
            clock: PlanTime(0),
            book: Book::new(Tables::default(), capacity, Settings::default()),
            planned: None,
            ledger: Ledger::default(),
            report: Vec::new(),
            health_ports: HealthPorts::default(),
            writes: 0,
        }
    }

    /// Executes a step that compares nothing.
    pub fn take(&mut self, words: &[&str], case: &Case, maps: &mut impl MapStore) -> Result<(), String> {
        match words {
            ["node", name, addrs @ ..] => {
                let addrs = addrs.iter().map(|a| a.parse().map_err(|_| format!("{a:?} is no address")));
                self.addresses.addrs = addrs.collect::<Result<BTreeSet<_>, String>>()?;
                self.node = (*name).to_owned();
                return self.restart(maps);
            }
            ["nodeport-addresses", list] => {
                self.settings.node_port_addresses = list.parse()?;
                self.change_settings();
            }
            ["service-cidr", list] => {
                self.settings.service_cidrs = list.parse()?;
                self.change_settings();
            }
            ["pools", section] => {
                let yaml = serde_yaml_ng::from_str(case.section(section)?).map_err(|e| e.to_string())?;
                let (settings, problems) = LoadBalancerSettings::read(yaml);
                if let Some((field, reason)) = problems.first() {
                    return Err(format!("{field}: {reason}"));
                }
                self.settings.pools = ranges(&settings.pools, &self.addresses.addrs);
                self.load_balancer = settings;
                self.change_settings();
            }
            ["capacity", table, number] => {
                let number = number.parse().map_err(|_| format!("{number:?} is no number"))?;
                match *table {
                    "selection" => self.capacity.selection = number,
                    "backends" => self.capacity.backends = number,
                    "services" => self.capacity.services = number,
                    "frontends" => self.capacity.frontends = number,
                    other => return Err(format!("there is no table {other:?}")),
                }
                return self.restart(maps);
            }
            ["apply", names @ ..] => {
                for name in names {
                    let file = name.split('@').next().unwrap_or_default();
                    self.files.update(file, Ok(case.section(name)?));
                }
                return self.reconcile(maps);
            }
            ["delete", names @ ..] => {
                names.iter().for_each(|name| self.files.remove(name));
                return self.reconcile(maps);
            }
            ["restart"] => {
                self.restart(maps)?;
                return self.reconcile(maps);
            }
            other => return Err(format!("unknown step {other:?}")),
        }
        Ok(())
    }

    fn change_settings(&mut self) {
        self.book.set_settings(self.settings.clone());
        self.planned = None;
    }

    /// A new daemon finds the previous one's tables.
    fn restart(&mut self, maps: &mut impl MapStore) -> Result<(), String> {
        self.objects = None;
        self.planned = None;
        self.model = Store::new(&self.node);
        self.ledger = Ledger::default();
        let found = maps.dump().map_err(|e| e.to_string())?;
        self.book = Book::new(found, self.capacity, self.settings.clone());
        Ok(())
    }

    fn reconcile(&mut self, maps: &mut impl MapStore) -> Result<(), String> {
        let (objects, report) = self.files.objects();
        self.report = report;
        let mut objects = Objects::of(&objects);
        let cidrs = &self.settings.service_cidrs.0;
        let (complaints, _) = objects.assign_load_balancers(cidrs, &self.load_balancer, &mut self.given);
        self.report.extend(complaints);
        let batch =
            self.objects.as_ref().map_or_else(|| objects.list(), |before| objects.changes_since(before));
        batch.into_iter().for_each(|event| self.model.take(event));
        self.model.set_addresses(self.addresses.clone());
        self.objects = Some(objects);
        self.writes = self.plan(maps)?;
        // A later attempt finds nothing to do (PAR-131), unless it waited for slots to become free.
        self.clock.0 += GRACE_MILLIS;
        let is_full = self.book.waiting().next().is_some();
        let more = self.plan(maps)?;
        if more > 0 && !is_full {
            return Err(format!("planning again is not silent: {more} ops"));
        }
        self.writes += more;
        Ok(())
    }

    /// The number of written ops.
    fn plan(&mut self, maps: &mut impl MapStore) -> Result<usize, String> {
        if !self.model.is_synced() {
            return Err("the source is not complete".to_owned());
        }
        let world = self.model.world().clone();
        let changes = match &self.planned {
            Some(planned) => Changes::between(planned, &world),
            None => Changes { node: true, ..Changes::default() },
        };
        for (origin, complaints) in self.model.take_complaints() {
            self.ledger.set(origin, complaints);
        }
        let turn = self.book.turn(&world, &changes, self.clock);
        for (service, complaints) in turn.complaints {
            self.ledger.set(svc_ctl::model::complaint::Origin::Plan(service), complaints);
        }
        for op in &turn.ops {
            if let Some((_, error)) = maps.apply(std::slice::from_ref(op)).pop() {
                return Err(error.to_string());
            }
        }
        self.book.release(self.clock);
        self.health_ports = health_ports(world.clone(), self.settings.node_port_addresses.clone());
        self.planned = Some(world);
        // The first op of a service port clears its counters, which no packet can observe.
        Ok(turn.ops.iter().filter(|op| !matches!(op, svc_ctl::plan::tables::MapOp::ResetService(_))).count())
    }

    /// All complaints, one per line.
    pub fn rejected(&self) -> String {
        let all = self.ledger.subscribe().borrow().clone();
        self.report
            .iter()
            .chain(all.values().flat_map(|list| list.iter()))
            .map(|c| format!("{c}\n"))
            .collect()
    }

    /// Endpoints that flows and clients may keep.
    pub fn in_force(&self) -> InForce {
        InForce::of(&self.book, &Arc::new(self.addresses.clone()))
    }

    pub const fn health_ports(&self) -> &HealthPorts {
        &self.health_ports
    }
}
