//! One daemon after another, as the steps of a case want them: from files to ops, written to the tables of whoever
//! plays the case.

use std::collections::BTreeSet;

use svc_ctl::dataplane::store::MapStore;
use svc_ctl::model::node::NodeAddresses;
use svc_ctl::model::store::Store;
use svc_ctl::plan::desired::{Planned, Settings, plan_tables};
use svc_ctl::plan::diff::plan_diff;
use svc_ctl::plan::health_ports::{HealthPorts, plan_health_ports};
use svc_ctl::plan::ids::{Capacity, Ids};
use svc_ctl::plan::serving::Serving;
use svc_ctl::plan::stays::Stays;
use svc_ctl::plan::tables::Tables;
use svc_ctl::plan::tick::{GRACE_TICKS, Tick};
use svc_ctl::source::event::SourceEvent;
use svc_ctl::source::manifests::files::Files;
use svc_ctl::source::manifests::world::World;

use super::case::Case;

pub struct Daemon {
    node: String,
    addresses: NodeAddresses,
    settings: Settings,
    capacity: Capacity,
    files: Files,
    world: Option<World>,
    model: Store,
    clock: Tick,
    /// The last plan, which the tables hold.
    pub planned: Planned,
    pub health_ports: HealthPorts,
    /// Ops that the last edit took.
    pub writes: usize,
}

impl Daemon {
    /// The first one, beside empty tables.
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
            world: None,
            model: Store::new("test-node"),
            clock: Tick(0),
            planned: found(Tables::default(), capacity),
            health_ports: HealthPorts::default(),
            writes: 0,
        }
    }

    /// A step that compares nothing.
    pub fn take(&mut self, words: &[&str], case: &Case, maps: &mut impl MapStore) -> Result<(), String> {
        match words {
            ["node", name, addrs @ ..] => {
                let addrs = addrs.iter().map(|a| a.parse().map_err(|_| format!("{a:?} is no address")));
                self.addresses.addrs = addrs.collect::<Result<BTreeSet<_>, String>>()?;
                self.node = (*name).to_owned();
                return self.restart(maps);
            }
            ["nodeport-addresses", list] => self.settings.node_port_addresses = list.parse()?,
            ["service-cidr", list] => self.settings.service_cidrs = list.parse()?,
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

    /// Another daemon finds the tables as the last one left them.
    fn restart(&mut self, maps: &mut impl MapStore) -> Result<(), String> {
        self.world = None;
        self.model = Store::new(&self.node);
        self.planned = found(maps.dump().map_err(|e| e.to_string())?, self.capacity);
        Ok(())
    }

    fn reconcile(&mut self, maps: &mut impl MapStore) -> Result<(), String> {
        let (objects, report) = self.files.objects();
        let world = World::of(&objects);
        let batch = self.world.as_ref().map_or_else(|| world.list(), |before| world.changes_since(before));
        for event in batch.into_iter().chain([SourceEvent::Report(report)]) {
            self.model.take(event);
        }
        self.model.set_addresses(self.addresses.clone());
        self.world = Some(world);
        let (writes, is_full) = self.plan(maps)?;
        // A later attempt finds nothing to do (PAR-131), unless it waited for places to come free.
        self.clock.0 += GRACE_TICKS;
        let (more, _) = self.plan(maps)?;
        if more > 0 && !is_full {
            return Err(format!("planning again is not silent: {more} ops"));
        }
        self.writes = writes + more;
        Ok(())
    }

    /// Ops that were written, and whether a table is full.
    fn plan(&mut self, maps: &mut impl MapStore) -> Result<(usize, bool), String> {
        let snapshot = self.model.snapshot().ok_or("the source is not complete")?;
        let Planned { tables, ids, .. } = &self.planned;
        let mut planned = plan_tables(&snapshot, &self.settings, tables, ids.clone(), self.clock);
        let ops = plan_diff(tables, &planned.tables);
        maps.apply(&ops).1.map_err(|e| e.to_string())?;
        planned.ids.release(self.clock);
        self.planned = planned;
        self.health_ports = plan_health_ports(&snapshot, &self.settings.node_port_addresses).0;
        Ok((ops.len(), self.planned.is_full))
    }

    /// What is rejected, a line each.
    pub fn rejected(&self) -> String {
        self.model.rejected().iter().chain(&self.planned.problems).map(|r| format!("{r}\n")).collect()
    }
}

/// What a daemon makes of the tables that it finds.
fn found(tables: Tables, capacity: Capacity) -> Planned {
    let ids = Ids::restored(&tables, capacity);
    Planned {
        tables,
        ids,
        serving: Serving::new(),
        stays: Stays::new(),
        problems: Vec::new(),
        is_full: false,
    }
}
