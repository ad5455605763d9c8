//! The daemon's own state: programs, attachments, and what it tells of them.

mod xdp;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use svc_common::abi::{self, ABI_VERSION};
use svc_common::addr::Proto;
use tokio::time::Instant;

use crate::cli::args::Source;
use crate::config::Config;
use crate::dataplane::affinity;
use crate::dataplane::attach::{Attacher, is_cgroup_attached};
use crate::dataplane::flows;
use crate::dataplane::interfaces::{Attachments, Wanted};
use crate::dataplane::load::{Features, Loaded, Settings};
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::{Lock, Pins};
use crate::dataplane::sockets::Sockets;
use crate::dataplane::usage::Usage;
use crate::model::node::NodeAddresses;
use crate::model::rejected::Rejected;
use crate::node::netns;
use crate::node::roles::{Assignment, Role, assign};
use crate::node::snat::sources;
use crate::node::watch::Observed;
use crate::node::{Interface, Interfaces};
use crate::observe::status::{InterfaceStatus, RejectedStatus, StatusFile, TableStatus};
use crate::plan::prefixes::LocalPods;
use crate::plan::serving::{Serving, is_stale};
use crate::plan::stays::Stays;
use crate::reconcile::ReconcileStatus;

/// Programs in the kernel and what they hang on.
pub struct Daemon {
    config: Config,
    /// The node's cgroup.
    cgroup: PathBuf,
    pins: Pins,
    /// No other daemon uses these pins, and `cleanup` lets them be.
    lock: Lock,
    loaded: Loaded,
    maps: Maps,
    attachments: Attachments,
    interfaces: Interfaces,
    roles: BTreeMap<u32, Assignment>,
    attach_ms: BTreeMap<u32, f64>,
    status: StatusFile,
    usage: Vec<TableStatus>,
    /// Why attaching anew failed the last time.
    restore_problem: Option<String>,
    /// What UDP flows and sockets were last held against.
    serving: Arc<Serving>,
    sockets: Sockets,
    /// Why UDP sockets stay with endpoints that are gone.
    socket_problem: Option<String>,
    /// Listeners that could not be opened.
    listeners: Vec<Rejected>,
    /// What the reconcile loop refused last.
    planned: Vec<Rejected>,
    /// What affinity was last held against.
    stays: Option<Arc<Stays>>,
}

impl Daemon {
    /// Loads the programs over the pinned maps and attaches the socket hooks.
    pub fn start(config: Config, cgroup: PathBuf) -> anyhow::Result<Self> {
        let pins = Pins::open(&config.pin_dir)?;
        let lock = pins.lock()?;
        for other in pins.other_versions()? {
            tracing::warn!(path = %other.display(), "maps of another ABI version lie here; they are not used");
        }
        let local_pods = &config.settings.local_pods;
        let settings = Settings {
            snat_ports: config.snat_ports,
            pod_sockets: config.pod_sockets,
            pods_by_source: matches!(local_pods, LocalPods::Within(_) | LocalPods::OfNode),
            service_cidrs: !config.settings.service_cidrs.0.is_empty(),
        };
        let mut loaded = Loaded::new(&pins, settings)?;
        let maps = Maps::open(&pins)?;
        Attacher { loaded: &mut loaded, pins: &pins }.cgroup(&cgroup)?;
        let warnings = warnings(loaded.features);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let status = StatusFile {
            node: config.node_name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI_VERSION,
            source: match &config.source {
                Source::Kubernetes => "kubernetes".to_owned(),
                Source::Manifests(path) => format!("manifests:{}", path.display()),
            },
            warnings,
            cgroup: cgroup.display().to_string(),
            ..StatusFile::default()
        };
        Ok(Self {
            config,
            cgroup,
            pins,
            lock,
            loaded,
            maps,
            attachments: Attachments::default(),
            interfaces: Interfaces::default(),
            roles: BTreeMap::new(),
            attach_ms: BTreeMap::new(),
            status,
            usage: Vec::new(),
            restore_problem: None,
            serving: Arc::default(),
            sockets: Sockets::default(),
            socket_problem: None,
            listeners: Vec::new(),
            planned: Vec::new(),
            stays: None,
        })
    }

    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Gives every interface its role and programs; answers the node's addresses.
    pub fn observe(&mut self, observed: &Observed) -> NodeAddresses {
        self.interfaces = observed.interfaces.clone();
        self.roles = assign(&self.interfaces, &self.config.roles);
        let wanted = self.interfaces.list.iter().filter_map(|i| self.wanted(i)).collect();
        let fresh = self.attachments.update(&mut self.loaded, &self.pins, &mut self.maps, wanted);
        let elapsed = Instant::now().duration_since(observed.heard).as_secs_f64() * 1e3;
        for index in fresh {
            self.attach_ms.insert(index, elapsed);
            let name = self.interfaces.list.iter().find(|i| i.index == index).map_or("", |i| i.name.as_str());
            match self.attachments.get(index) {
                Some(a) if !a.errors.is_empty() => {
                    tracing::error!(interface = name, errors = ?a.errors, "not served completely");
                }
                Some(a) => tracing::info!(interface = name, hooks = ?a.hooks, ms = elapsed, "attached"),
                None => {}
            }
        }
        self.write();
        self.addresses()
    }

    /// Removes what an earlier daemon left for interfaces that are gone or have another role now.
    pub fn prune(&mut self) {
        if let Err(err) = self.attachments.prune(&mut self.loaded, &self.pins, &mut self.maps) {
            tracing::warn!(%err, "looking for what an earlier daemon left");
        }
    }

    /// Tells what the reconcile loop says.
    pub fn tell(&mut self, r: &ReconcileStatus) {
        let s = &mut self.status;
        s.synced = r.synced;
        s.generation = r.generation;
        s.pending_since_unix_ms = r.pending_since_unix_ms;
        s.last_error.clone_from(&r.last_error);
        s.failures = r.failures;
        s.drifts = r.drifts;
        s.tables = r
            .sizes
            .iter()
            .map(|t| TableStatus { table: t.table.to_string(), used: t.used, capacity: t.capacity })
            .chain(self.usage.iter().cloned())
            .collect();
        s.services = r.services.iter().map(|(id, key)| (id.0, key.to_string())).collect();
        self.planned.clone_from(&r.rejected);
        self.list_rejected();
        // The new state is in force: a packet cannot begin a stale flow again (SEM-126).
        if self.serving != r.serving {
            self.serving = Arc::clone(&r.serving);
            let removed = flows::remove_stale(&mut self.maps, &r.serving, &r.tables.addresses);
            self.status.udp_flows_removed += removed;
            tracing::debug!(removed, "UDP flows to endpoints that are gone");
            self.end_sockets(r);
        }
        self.end_stays(r);
        self.write();
    }

    /// Tells which listeners could not be opened.
    pub fn tell_listeners(&mut self, problems: &[Rejected]) {
        self.listeners = problems.to_vec();
        self.list_rejected();
        self.write();
    }

    fn list_rejected(&mut self) {
        self.status.rejected = self.planned.iter().chain(&self.listeners).map(rejected_status).collect();
    }

    /// Ends connected UDP sockets of endpoints that are gone (SEM-130).
    fn end_sockets(&mut self, r: &ReconcileStatus) {
        let is_stale =
            |dialled, backend| is_stale(&r.serving, &r.tables.addresses, Proto::UDP, dialled, backend);
        let namespaces = || netns::all(&self.config.netns_dirs);
        match self.sockets.end_stale(&self.pins, is_stale, namespaces) {
            Ok(outcome) => {
                tracing::debug!(ended = outcome.ended, "UDP sockets of endpoints that are gone");
                self.status.udp_sockets_ended += outcome.ended;
                self.status.udp_sockets_left += outcome.left;
                if outcome.refusal.is_some() {
                    self.socket_problem = outcome.refusal;
                    self.warn();
                }
            }
            Err(err) => tracing::warn!("ending UDP sockets of endpoints that are gone: {err:#}"),
        }
    }

    /// Forgets which clients stay with backends that are no endpoints any more (SEM-233).
    fn end_stays(&mut self, r: &ReconcileStatus) {
        let Some(stays) = r.stays.as_ref().filter(|_| self.stays != r.stays) else { return };
        match affinity::remove_stale(&self.pins, stays) {
            Ok(removed) => {
                tracing::debug!(removed, "affinity to endpoints that are gone");
                self.stays = Some(Arc::clone(stays));
            }
            Err(err) => tracing::warn!("forgetting who stays with endpoints that are gone: {err:#}"),
        }
    }

    /// Puts right what others did to the host's settings, links and pins, and tells the counters.
    pub fn sweep(&mut self) {
        self.warn();
        match self.restore() {
            Ok(()) => self.restore_problem = None,
            Err(err) => {
                let text = format!("{err:#}");
                if self.restore_problem.as_ref() != Some(&text) {
                    tracing::error!("attaching anew: {text}");
                }
                self.restore_problem = Some(text);
            }
        }
        self.status.counters = self.maps.nonzero_counters();
        self.write();
    }

    /// How full the tables are that the programs fill.
    pub fn used(&mut self, usage: &[Usage]) {
        self.usage = usage
            .iter()
            .map(|u| TableStatus { table: u.table.to_owned(), used: u.used, capacity: u.capacity })
            .collect();
        self.status.tables.retain(|t| !self.usage.iter().any(|u| u.table == t.table));
        self.status.tables.extend(self.usage.iter().cloned());
    }

    fn warn(&mut self) {
        let now: Vec<_> =
            warnings(self.loaded.features).into_iter().chain(self.socket_problem.clone()).collect();
        for warning in now.iter().filter(|w| !self.status.warnings.contains(w)) {
            tracing::warn!("{warning}");
        }
        for warning in self.status.warnings.iter().filter(|w| !now.contains(w)) {
            tracing::info!("no longer so: {warning}");
        }
        self.status.warnings = now;
    }

    /// Attaches and pins anew what is no longer attached or pinned.
    fn restore(&mut self) -> anyhow::Result<()> {
        self.pins.make()?;
        if !self.lock.is_of(&self.config.pin_dir) {
            self.lock = self.pins.lock()?;
        }
        let pinned = self.loaded.pin_maps(&self.pins)?;
        if pinned != 0 {
            tracing::warn!(maps = pinned, "maps had lost their pins: pinned anew");
            self.status.reattached += pinned;
        }
        for index in self.attachments.restore(&mut self.loaded, &self.pins)? {
            let name = self.interfaces.list.iter().find(|i| i.index == index).map_or("", |i| i.name.as_str());
            tracing::warn!(interface = name, "programs or their pins were gone: attached anew");
            self.status.reattached += 1;
        }
        if !is_cgroup_attached(&self.pins, &self.cgroup) {
            Attacher { loaded: &mut self.loaded, pins: &self.pins }.cgroup(&self.cgroup)?;
            tracing::warn!("socket hooks or their pins were gone: attached anew");
            self.status.reattached += 1;
        }
        Ok(())
    }

    fn write(&mut self) {
        self.status.interfaces = self.interfaces.list.iter().map(|i| self.interface_status(i)).collect();
        if let Err(err) = self.status.write(&self.config.run_dir) {
            tracing::warn!("{err:#}");
        }
    }

    fn interface_status(&self, i: &Interface) -> InterfaceStatus {
        let attached = self.attachments.get(i.index).cloned().unwrap_or_default();
        let (role, reason) = match self.roles.get(&i.index) {
            Some(a) => (role_name(a.role), a.reason.clone()),
            None => (role_name(Role::None), String::new()),
        };
        InterfaceStatus {
            name: i.name.clone(),
            index: i.index,
            role: role.to_owned(),
            reason,
            hooks: attached.hooks,
            errors: attached.errors,
            attach_ms: self.attach_ms.get(&i.index).copied(),
        }
    }

    fn wanted(&self, i: &Interface) -> Option<Wanted> {
        let role = match self.roles.get(&i.index)?.role {
            Role::Uplink => abi::Role::UPLINK,
            Role::Pod => abi::Role::POD,
            Role::PodBridge => abi::Role::POD_BRIDGE,
            Role::None => return None,
        };
        let source = sources(i, &self.interfaces, &self.roles, &[]);
        let is_pod_bridge = |index: &u32| self.roles.get(index).is_some_and(|a| a.role == Role::PodBridge);
        Some(Wanted {
            index: i.index,
            name: i.name.clone(),
            role,
            is_ethernet: i.is_ethernet,
            bridge: i.master.filter(is_pod_bridge).unwrap_or(0),
            snat_v4: source.v4,
            snat_v6: source.v6,
            mac: i.mac,
            is_of_pods: self.config.settings.local_pods == LocalPods::ByInterface
                && self.config.pod_interfaces.has(i, role == abi::Role::POD, &self.interfaces),
            xdp: if role == abi::Role::UPLINK {
                xdp::wish(self.config.xdp, i, &self.interfaces)
            } else {
                None
            },
        })
    }

    fn addresses(&self) -> NodeAddresses {
        let first = |is_wanted: fn(&IpAddr) -> bool| {
            let is_uplink = |i: &&Interface| self.roles.get(&i.index).is_some_and(|a| a.role == Role::Uplink);
            self.interfaces.list.iter().filter(is_uplink).flat_map(|i| &i.addrs).copied().find(is_wanted)
        };
        let v4 = first(IpAddr::is_ipv4).and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None });
        let v6 = first(IpAddr::is_ipv6).and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None });
        NodeAddresses {
            addrs: self.interfaces.list.iter().flat_map(|i| i.addrs.iter().copied()).collect(),
            primary_v4: v4,
            primary_v6: v6,
        }
    }
}

fn rejected_status(r: &Rejected) -> RejectedStatus {
    RejectedStatus { object: r.object.clone(), field: r.field.clone(), reason: r.reason.clone() }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Uplink => "uplink",
        Role::Pod => "pod",
        Role::PodBridge => "pod-bridge",
        Role::None => "none",
    }
}

/// Kernel features that are missing, and settings of the host. svc changes no sysctl: what it needs and does not find
/// is said by name.
fn warnings(features: Features) -> Vec<String> {
    let is_off = |name: &&str| {
        std::fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|value| value.trim() == "0")
    };
    let forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].into_iter().filter(is_off);
    features.fallbacks().into_iter().map(str::to_owned).chain(forwarding.map(forwarding_warning)).collect()
}

fn forwarding_warning(name: &str) -> String {
    format!("{name} is 0: packets are not forwarded to pods or other nodes")
}
