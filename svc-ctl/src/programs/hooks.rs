//! State of the programs' thread: programs, links, and the interfaces and cgroup to which they are attached.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Context as _;
use svc_common::abi::names;
use tokio::time::Instant;

use super::HooksStatus;
use super::desired::{desired_interfaces, interface_status, node_addresses};
use super::firewall::Forward;
use super::host::Host;
use super::masquerade_path::{MasqueradePath, NodeNetwork, bridge_filter, masquerade_path};

use crate::config::{Config, ThroughStack};
use crate::dataplane::attach::{Attacher, is_cgroup_attached};
use crate::dataplane::hooks::{TcHook, cgroup_programs};
use crate::dataplane::interfaces::{Attachments, DesiredInterface, IfaceTable, programs};
use crate::dataplane::links::{Links, Outer};
use crate::dataplane::load::Loaded;
use crate::dataplane::map_set::MapSet;
use crate::dataplane::maps::by_aya;
use crate::dataplane::pins::{Lock, Pins};
use crate::dataplane::upgrade::pin_layout;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::node::NodeAddresses;
use crate::node::roles::{Assignment, InterfaceRole, assign};
use crate::node::watch::Observed;
use crate::node::{Interface, Interfaces};
use crate::observe::ledger::Ledger;

/// Programs for pod interfaces; loaded before there is a pod.
const POD_PROGRAMS: [&str; 2] = ["pod_ingress", "pod_egress"];

/// Programs in the kernel and their attachment points.
pub struct Hooks {
    config: Config,
    /// The node's cgroup.
    cgroup: PathBuf,
    pub pins: Pins,
    /// Held so that no other daemon uses these pins and `cleanup` leaves them alone.
    lock: Lock,
    pub loaded: Loaded,
    pub links: Links,
    attachments: Attachments,
    table: IfaceTable,
    interfaces: Interfaces,
    roles: BTreeMap<u32, Assignment>,
    masquerade_path: MasqueradePath,
    attach_ms: BTreeMap<u32, f64>,
    reattached: u64,
    maps_generation: u64,
    host: Host,
    ledger: Ledger,
    /// Complaints about foreign programs that run before ours.
    outer: Vec<Complaint>,
    /// Failures that do not concern an interface, by what failed.
    failures: BTreeMap<&'static str, Complaint>,
}

impl Hooks {
    pub fn new(
        config: Config,
        cgroup: PathBuf,
        pins: Pins,
        lock: Lock,
        loaded: Loaded,
        defers: bool,
        ledger: Ledger,
    ) -> anyhow::Result<Self> {
        let table = by_aya(loaded.maps(), names::IFACES)?;
        Ok(Self {
            config,
            cgroup,
            pins,
            lock,
            loaded,
            links: Links::new(defers),
            attachments: Attachments::default(),
            table,
            interfaces: Interfaces::default(),
            roles: BTreeMap::new(),
            masquerade_path: masquerade_path(
                ThroughStack::Never,
                &Forward::default(),
                NodeNetwork::default(),
            ),
            attach_ms: BTreeMap::new(),
            reattached: 0,
            maps_generation: 0,
            host: Host::new(ledger.clone()),
            ledger,
            outer: Vec::new(),
            failures: BTreeMap::new(),
        })
    }

    /// Opens or loads all programs that are needed now and attaches them; removes leftovers of an earlier daemon.
    pub fn start(&mut self, observed: &Observed) -> anyhow::Result<()> {
        let start = Instant::now();
        // Socket programs load ten times faster than the others.
        self.loaded.require(&cgroup_programs().collect::<Vec<_>>())?;
        let cgroup = self.cgroup.clone();
        self.attacher().cgroup(&cgroup)?;
        let sockets_ms = start.elapsed().as_secs_f64() * 1e3;
        self.assign(observed);
        self.host.read_firewall(&self.config);
        self.choose_masquerade_path();
        let wanted = self.desired_interfaces();
        let mut needed: BTreeSet<&str> = POD_PROGRAMS.into();
        needed.extend(wanted.iter().flat_map(programs));
        self.loaded.require(&needed.into_iter().collect::<Vec<_>>())?;
        self.update(wanted, observed.heard);
        if let Err(err) = self.prune() {
            tracing::warn!(%err, "cannot look for leftovers of an earlier daemon");
        }
        let attached_ms = start.elapsed().as_secs_f64() * 1e3;
        tracing::info!(loads = self.loaded.loads, sockets_ms, attached_ms, "attached the programs");
        Ok(())
    }

    /// The programs that are attached, and those for the next pod.
    pub fn needed_programs(&self) -> Vec<&'static str> {
        let mut needed: BTreeSet<&'static str> = self.links.programs().into_iter().collect();
        needed.extend(POD_PROGRAMS);
        needed.into_iter().collect()
    }

    /// Gives the interfaces their roles; returns the node's addresses.
    pub fn list(&mut self, observed: &Observed) -> NodeAddresses {
        self.assign(observed);
        node_addresses(&self.interfaces, &self.roles)
    }

    fn prune(&mut self) -> anyhow::Result<()> {
        let Self { loaded, pins, links, .. } = self;
        self.attachments.prune(&mut Attacher { loaded, pins, links }, &mut self.table)?;
        self.pins.remove_other_programs(self.loaded.dir())
    }

    /// Gives every interface its role and programs; returns the node's addresses.
    pub fn observe(&mut self, observed: &Observed) -> NodeAddresses {
        self.assign(observed);
        self.choose_masquerade_path();
        self.update(self.desired_interfaces(), observed.heard);
        node_addresses(&self.interfaces, &self.roles)
    }

    fn assign(&mut self, observed: &Observed) {
        self.interfaces = observed.interfaces.clone();
        self.roles = assign(&self.interfaces, &self.config.roles);
        self.host.note_interfaces(&self.interfaces, &self.roles);
    }

    fn desired_interfaces(&self) -> Vec<DesiredInterface> {
        desired_interfaces(&self.config, &self.interfaces, &self.roles, self.masquerade_path.flags)
    }

    /// Decides whether masqueraded packets go through the stack; true if that changed.
    fn choose_masquerade_path(&mut self) -> bool {
        let forward = self.host.forward();
        let is_bridge_uplink = |i: &Interface| {
            i.is_bridge && self.roles.get(&i.index).is_some_and(|a| a.role == InterfaceRole::Uplink)
        };
        let node_network = NodeNetwork {
            has_narrow_route: self.interfaces.has_narrow_route,
            routes_by_source: self.interfaces.routes_by_source,
            routes_by_mark: self.interfaces.routes_by_mark,
            has_bridge_uplink: self.interfaces.list.iter().any(is_bridge_uplink),
            bridges: bridge_filter(),
        };
        let path = masquerade_path(self.config.through_stack, &forward, node_network);
        let is_new = path != self.masquerade_path;
        if is_new {
            tracing::info!(path = path.words, "masqueraded packets");
        }
        let spoilt = path.is_spoilt_by_bridge.then(|| spoilt_by_bridge(&path.words));
        self.note("bridge", spoilt);
        self.masquerade_path = path;
        is_new
    }

    fn update(&mut self, wanted: Vec<DesiredInterface>, heard: Instant) {
        let Self { loaded, pins, links, .. } = self;
        let fresh = self.attachments.update(&mut Attacher { loaded, pins, links }, &mut self.table, wanted);
        let ms = heard.elapsed().as_secs_f64() * 1e3;
        for index in fresh {
            self.attach_ms.insert(index, ms);
            let name = self.name(index);
            if let Some(attached) = self.attachments.get(index).filter(|a| a.errors.is_empty()) {
                tracing::info!(interface = name, hooks = ?attached.hooks, ms, "attached");
            }
        }
        let indices: BTreeSet<u32> = self.interfaces.list.iter().map(|i| i.index).collect();
        self.attach_ms.retain(|index, _| indices.contains(index));
        self.complain();
    }

    fn name(&self, index: u32) -> &str {
        self.interfaces.list.iter().find(|i| i.index == index).map_or("", |i| i.name.as_str())
    }

    fn attacher(&mut self) -> Attacher<'_> {
        Attacher { loaded: &mut self.loaded, pins: &self.pins, links: &mut self.links }
    }

    /// An attachment failed and will be retried.
    pub fn has_failed(&self) -> bool {
        self.attachments.has_errors() || self.failures.contains_key("cgroup")
    }

    /// Retries failed attachments.
    pub fn retry(&mut self) {
        self.update(self.desired_interfaces(), Instant::now());
        self.restore_cgroup();
        self.complain();
    }

    /// Attaches and pins again whatever was detached or unpinned.
    pub fn restore(&mut self) {
        let restored = self.restore_pins().and_then(|()| self.restore_links());
        self.note("pins", restored.err().map(|err| failed("--pin-dir", &err)));
        self.restore_cgroup();
        self.host.look(&self.config, self.loaded.features);
        self.outer = self.links.outer().iter().map(|outer| self.in_the_way(outer)).collect();
        if self.choose_masquerade_path() {
            self.update(self.desired_interfaces(), Instant::now());
        }
        self.complain();
    }

    fn restore_pins(&mut self) -> anyhow::Result<()> {
        self.pins.make()?;
        if !self.lock.is_of(&self.config.pin_dir) {
            self.lock = self.pins.lock()?;
        }
        pin_layout(&self.pins)?;
        let maps = self.loaded.maps().pin(|name| self.pins.map(name))?;
        let pinned = maps + self.loaded.restore_pins()?;
        if pinned != 0 {
            tracing::warn!(pinned, "maps or programs were unpinned: pinned them again");
            self.reattached += pinned;
        }
        Ok(())
    }

    fn restore_links(&mut self) -> anyhow::Result<()> {
        let restored = self.links.restore(&self.pins)?;
        if !restored.pinned.is_empty() {
            tracing::warn!(links = ?restored.pinned, "links were unpinned: pinned them again");
            self.reattached += restored.pinned.len() as u64;
        }
        let Self { loaded, pins, links, .. } = self;
        let attacher = &mut Attacher { loaded, pins, links };
        for index in self.attachments.restore(attacher, &restored.dead)? {
            tracing::warn!(interface = self.name(index), "programs were detached: attached them again");
            self.reattached += 1;
        }
        Ok(())
    }

    fn restore_cgroup(&mut self) {
        let path = self.cgroup.clone();
        let subject = || format!("cgroup {}", path.display());
        let failure = match path.metadata() {
            Err(err) => {
                let reason = format!("{err}: sockets of its processes are not served");
                Some(Complaint::new(Kind::Failed, subject(), "", reason))
            }
            Ok(_) if is_cgroup_attached(&self.links) => None,
            Ok(_) => match self.attacher().cgroup(&path) {
                Ok(()) => {
                    tracing::warn!("socket programs were detached: attached them again");
                    self.reattached += 1;
                    None
                }
                Err(err) => Some(failed(&subject(), &err)),
            },
        };
        self.note("cgroup", failure);
    }

    /// Stores a failure under `what`, or clears it.
    pub fn note(&mut self, what: &'static str, failure: Option<Complaint>) {
        match failure {
            Some(complaint) => drop(self.failures.insert(what, complaint)),
            None => drop(self.failures.remove(what)),
        }
    }

    /// Complains of hooks without a program.
    pub fn complain(&self) {
        let of_interface = |(name, errors): (&str, &[String])| -> Vec<Complaint> {
            let object = format!("interface {name}");
            errors.iter().map(|text| Complaint::new(Kind::Failed, object.as_str(), "", text)).collect()
        };
        let interfaces = self.attachments.errors().flat_map(of_interface);
        let all = self.failures.values().cloned().chain(interfaces).chain(self.outer.iter().cloned());
        self.ledger.set(Origin::Programs, all.collect());
    }

    fn in_the_way(&self, outer: &Outer) -> Complaint {
        let reason = match outer.hook {
            TcHook::Ingress => "runs before svc: packets that it redirects or drops are not served",
            TcHook::Egress => "runs after svc: it may change or drop translated packets",
        };
        let object = format!("interface {}", self.name(outer.interface));
        Complaint::new(Kind::Conflict, object, "", format!("the tcx program {:?} {reason}", outer.program))
    }

    /// Replaces the programs of another version at the hooks that still run them.
    pub fn swap_first(&mut self) -> anyhow::Result<()> {
        let Self { loaded, pins, links, attachments, .. } = self;
        links.defers = false;
        let moved = links.swap(loaded).and_then(|moved| {
            attachments.swap_filters(&mut Attacher { loaded, pins, links }).map(|()| moved)
        });
        // After a failure the programs of the other version serve until the next attempt.
        links.defers = moved.is_err();
        let moved = moved?;
        tracing::info!(moved, "replaced the programs of another version");
        self.pins.remove_other_versions();
        Ok(())
    }

    /// Replaces the programs at every hook. On failure every hook has the previous programs.
    pub fn swap(&mut self, mut new: Loaded) -> anyhow::Result<Loaded> {
        self.links.swap(&mut new)?;
        if let Err(err) = self.swap_filters(&mut new) {
            self.links.swap(&mut self.loaded).context("going back to the old programs")?;
            let Self { loaded, pins, links, attachments, .. } = self;
            attachments.swap_filters(&mut Attacher { loaded, pins, links })?;
            return Err(err);
        }
        Ok(std::mem::replace(&mut self.loaded, new))
    }

    fn swap_filters(&mut self, new: &mut Loaded) -> anyhow::Result<()> {
        let Self { pins, links, attachments, .. } = self;
        if links.defers {
            // Filters do not show whose programs they run.
            return Ok(());
        }
        attachments.swap_filters(&mut Attacher { loaded: new, pins, links })
    }

    /// Called when other maps are in force.
    pub fn maps_replaced(&mut self) -> anyhow::Result<()> {
        self.maps_generation += 1;
        self.table = by_aya(self.loaded.maps(), names::IFACES)?;
        Ok(())
    }

    pub fn maps(&self) -> &MapSet {
        self.loaded.maps()
    }

    /// The state of every hook; valid once programs have been attached.
    pub fn status(&self) -> HooksStatus {
        let interface = |i: &Interface| {
            let attached = self.attachments.get(i.index).cloned().unwrap_or_default();
            interface_status(i, self.roles.get(&i.index), attached, self.attach_ms.get(&i.index).copied())
        };
        HooksStatus {
            is_attached: true,
            interfaces: self.interfaces.list.iter().map(interface).collect(),
            cgroup: self.cgroup.display().to_string(),
            masquerade: self.masquerade_path.words.clone(),
            reattached: self.reattached,
            features: self.loaded.features,
            maps_generation: self.maps_generation,
        }
    }
}

fn spoilt_by_bridge(words: &str) -> Complaint {
    let reason = format!(
        "masqueraded packets go {words}, but netfilter sees packets on the bridge with the network card before svc does: \
         connections from outside to Services are lost: set it and net/bridge/bridge-nf-call-ip6tables to 0"
    );
    Complaint::new(Kind::Conflict, "sysctl", "net/bridge/bridge-nf-call-iptables", reason)
}

/// The complaint for a failure that will be retried.
pub fn failed(object: &str, err: &anyhow::Error) -> Complaint {
    Complaint::new(Kind::Failed, object, "", format!("{err:#}"))
}
