//! A daemon's programs' thread, on an interface and a cgroup of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use svc_common::abi::PodSockets;
use svc_ctl::config::Source;
use svc_ctl::config::{Config, ThroughStack, XdpPolicy};
use svc_ctl::dataplane::sys;
use svc_ctl::node::roles::{PodInterfaces, RoleRules};
use svc_ctl::node::snat_ports::SnatPorts;
use svc_ctl::node::watch::Observed;
use svc_ctl::node::{Interface, Interfaces};
use svc_ctl::observe::ledger::Ledger;
use svc_ctl::programs::{self, HooksStatus, Started};
use svc_ctl::source::manifests::health::observer::HealthOptions;
use svc_tests::{command, wait};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::tables::pins;

pub const FLOWS: u32 = 65_536;
/// Maximum time until programs are attached, on a busy machine.
pub const ATTACH_LIMIT: Duration = Duration::from_secs(90);

/// A daemon's programs on an interface and a cgroup of their own.
pub struct Testbed {
    pub started: Started,
    pub hooks: watch::Receiver<HooksStatus>,
    pub ledger: Ledger,
    pub index: u32,
    cgroup: PathBuf,
    _observed: watch::Sender<Option<Observed>>,
}

impl Drop for Testbed {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.cgroup);
    }
}

impl Testbed {
    /// Starts and waits until everything is attached.
    pub fn start(name: &str, flow_table_size: u32) -> Result<Self> {
        let testbed = Self::begin(name, flow_table_size, XdpPolicy::Off)?;
        testbed.until_hooks(2)?;
        Ok(testbed)
    }

    /// Starts with programs on one interface, which is named after the testbed.
    pub fn begin(name: &str, flow_table_size: u32, xdp: XdpPolicy) -> Result<Self> {
        let interface = format!("{name}0");
        if nix::net::if_::if_nametoindex(interface.as_str()).is_err() {
            let batch = format!("link add {name}0 type veth peer name {name}1\nlink set {name}0 up\n");
            command::feed(Command::new("ip").args(["-batch", "-"]), &batch)?;
        }
        let index = nix::net::if_::if_nametoindex(interface.as_str())?;
        let hierarchy = Path::new("/sys/fs/bpf/cgroup");
        fs::create_dir_all(hierarchy)?;
        if !hierarchy.join("cgroup.procs").exists() {
            mount(Some("cgroup2"), hierarchy, Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
        }
        let cgroup = hierarchy.join(format!("svc-{name}-{}", std::process::id()));
        fs::create_dir_all(&cgroup)?;
        let only = Interface {
            index,
            name: interface,
            is_up: true,
            is_ethernet: true,
            kind: "veth".to_owned(),
            ..Interface::default()
        };
        let observed = Observed {
            interfaces: Interfaces { list: vec![only], ..Interfaces::default() },
            heard: Instant::now(),
        };
        let (sender, receiver) = watch::channel(Some(observed));
        let config = config(pins(name)?.tables().parent().context("a folder")?, flow_table_size, xdp);
        let (hooks_out, hooks) = watch::channel(HooksStatus::default());
        let ledger = Ledger::default();
        let started = programs::start(
            config,
            cgroup.clone(),
            receiver,
            watch::channel(false).1,
            hooks_out,
            ledger.clone(),
        )?;
        Ok(Self { started, hooks, ledger, index, cgroup, _observed: sender })
    }

    /// Waits until that many hooks of the interface have programs.
    pub fn until_hooks(&self, count: usize) -> Result<()> {
        wait::until_true("programs hang", ATTACH_LIMIT, || {
            Ok(self.hooks.borrow().interfaces.iter().any(|i| i.hooks.len() == count))
        })
    }

    /// The program behind each pinned link.
    pub fn programs(&self) -> Result<Vec<u32>> {
        let pins = &self.started.pins;
        let program = |name: &String| Ok(sys::link_info(sys::open_pin(&pins.link(name))?.as_fd())?.prog_id);
        pins.link_names()?.iter().map(program).collect()
    }

    /// Ends the thread. Its programs stay attached.
    pub fn stop(self) -> Result<()> {
        let pins = self.started.pins.clone();
        drop(self);
        wait::until_true("the lock is free", Duration::from_secs(20), || Ok(pins.lock().is_ok()))
    }

    /// The ids of the maps that the programs behind the links use.
    pub fn maps_in_use(&self) -> Result<BTreeSet<u32>> {
        let pins = &self.started.pins;
        let mut ids = BTreeSet::new();
        for name in pins.link_names()? {
            let info = sys::link_info(sys::open_pin(&pins.link(&name))?.as_fd())?;
            ensure!(info.target != 0, "{name} leads nowhere");
            ids.extend(sys::program_info(sys::program_by_id(info.prog_id)?.as_fd())?.maps);
        }
        Ok(ids)
    }

    pub fn pinned(&self, name: &str) -> Result<sys::MapInfo> {
        Ok(sys::map_info(sys::open_pin(&self.started.pins.map(name))?.as_fd())?)
    }
}

fn config(pin_dir: &Path, flow_table_size: u32, xdp: XdpPolicy) -> Config {
    Config {
        ends_when_in_force: false,
        state_dir: None,
        health: HealthOptions::default(),
        source: Source::Manifests("/".into()),
        kubeconfig: None,
        master: None,
        node_name: "node".to_owned(),
        pin_dir: pin_dir.to_owned(),
        run_dir: "/".into(),
        cgroup: None,
        roles: RoleRules::default(),
        settings: svc_ctl::plan::settings::Settings::default(),
        reads_service_cidrs: false,
        pod_interfaces: PodInterfaces::ByRole,
        dns: None,
        load_balancer: Default::default(),
        healthz: None,
        metrics: None,
        xdp,
        pod_sockets: PodSockets::WITHOUT_DAEMON,
        drops_unknown_ports: false,
        through_stack: ThroughStack::Auto,
        netns_dirs: Vec::new(),
        flow_table_size,
        new_flow_limit: 0,
        max_table_entries: u32::MAX,
        snat_ports: SnatPorts { first: 20_000, count: 1_000 },
        most_service_metrics: 0,
        measures_programs: false,
        verbosity: 0,
        in_force: Default::default(),
        file: None,
        complaints: Vec::new(),
        is_hard_fail: false,
        serves_external_ips: true,
    }
}
