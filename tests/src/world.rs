//! A topology with manifests and one svc-ctl per node, and diagnostic output.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::bpffs::BpfFs;
use crate::cleanup::Cleanup;
use crate::daemon::{Daemon, Flags, Source};
use crate::manifests::{Backend, Folder};
use crate::run_name::RunName;
use crate::topology::{Node, Options, Topology};
use crate::{command, run_name, wait};

/// A daemon is ready within this time: manifests read, programs attached.
pub const READY_LIMIT: Duration = Duration::from_secs(90);
/// A changed manifest or interface shows in the traffic within this time.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(5);

/// Everything that a scenario needs. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: daemons before the network.
    daemons: Vec<Daemon>,
    pub topology: Topology,
    pub folder: Folder,
    bpffs: BpfFs,
    scratch: Scratch,
    _cleanup: Cleanup,
}

impl World {
    /// The network without a service datapath.
    pub fn new(test: &str, options: Options) -> Result<Self> {
        let cleanup = Cleanup::start()?;
        let name = RunName::new(test);
        let scratch = Scratch(name.clone());
        let bpffs = BpfFs::mount(&name.dir().join("bpffs"))?;
        let folder = Folder::new(&name.dir().join("manifests"))?;
        let topology = Topology::new(&name, options)?;
        folder.write_nodes(&topology.nodes)?;
        Ok(Self { daemons: Vec::new(), topology, folder, bpffs, scratch, _cleanup: cleanup })
    }

    /// Starts a daemon on each node and waits until both are ready.
    pub fn start(&mut self, flags: Flags) -> Result<()> {
        self.start_with(flags, &[])
    }

    /// [`Self::start`] with more flags.
    pub fn start_with(&mut self, flags: Flags, more: &[&str]) -> Result<()> {
        let more: Vec<String> = more.iter().map(|flag| (*flag).to_owned()).collect();
        for _ in 1..=2 {
            self.start_next_with(Source::Manifests(self.folder.path().into()), flags, more.clone())?;
        }
        (1..=2).try_for_each(|node| self.ready(node))
    }

    /// Starts a daemon on the first node that has none.
    pub fn start_next(&mut self, source: Source, flags: Flags) -> Result<()> {
        self.start_next_with(source, flags, Vec::new())
    }

    /// [`Self::start_next`] with more flags.
    pub fn start_next_with(&mut self, source: Source, flags: Flags, more: Vec<String>) -> Result<()> {
        let node = self.topology.nodes.get(self.daemons.len()).context("every node has a daemon")?;
        let mut daemon = Daemon::new(node, &self.bpffs, &self.dir(), source, flags)?;
        daemon.more = more;
        daemon.start(node)?;
        self.daemons.push(daemon);
        Ok(())
    }

    /// Ends every daemon and removes its leftovers.
    pub fn end_daemons(&mut self) -> Result<()> {
        for (daemon, node) in self.daemons.iter_mut().zip(&self.topology.nodes) {
            daemon.stop()?;
            daemon.cleanup(node)?;
        }
        self.daemons.clear();
        Ok(())
    }

    /// Nodes no longer masquerade pods towards other nodes. If they do, like a CNI with `ipMasq: true`, nf_conntrack gives
    /// every fortieth of many datagrams another source port, because a process of the node has the same one. That may be the
    /// port of a flow that svc masquerades to the same backend (docs/deviations.md, SEM-080).
    pub fn end_cni_masquerade(&self) -> Result<()> {
        self.topology.nodes.iter().try_for_each(|node| node.host.netns.nft("delete table inet cni"))
    }

    /// A host as the endpoint of a Service.
    pub fn backend(&self, name: &str) -> Result<Backend> {
        let node = self.topology.nodes.iter().find(|node| node.hosts().any(|host| host.name() == name));
        let node = node.with_context(|| format!("{name} is on no node"))?.name().to_owned();
        Ok(Backend { name: name.into(), addrs: self.topology.host(name)?.addrs, node })
    }

    /// The folder of this world's files.
    pub fn dir(&self) -> PathBuf {
        self.scratch.0.dir()
    }

    /// [`Daemon::await_renewals`] of each daemon.
    pub fn await_renewals(&self) -> Result<()> {
        self.daemons.iter().try_for_each(Daemon::await_renewals)
    }

    pub fn daemon(&mut self, node: usize) -> Result<&mut Daemon> {
        self.daemons.get_mut(node - 1).context("no daemon was started")
    }

    /// The node and its daemon.
    pub fn on_node(&mut self, node: usize) -> Result<(&Node, &mut Daemon)> {
        let daemon = self.daemons.get_mut(node - 1).context("no daemon was started")?;
        Ok((self.topology.node(node), daemon))
    }

    /// `svc-ctl why` on a node: exit code and answer.
    pub fn why(&self, node: usize, arguments: &[&str]) -> Result<(i32, Value)> {
        let daemon = self.daemons.get(node - 1).context("no daemon was started")?;
        daemon.why(self.topology.node(node), arguments)
    }

    pub fn restart(&mut self, node: usize) -> Result<()> {
        let (host, daemon) = self.on_node(node)?;
        daemon.start(host)?;
        self.ready(node)
    }

    /// Waits until the node's daemon is in sync and has programs on every uplink and pod interface.
    pub fn ready(&mut self, node: usize) -> Result<()> {
        let (host, daemon) = self.on_node(node)?;
        let wanted = host.served_interfaces();
        let standing = wait::until(&format!("svc-ctl of {} is ready", host.name()), READY_LIMIT, || {
            // A daemon that ended will never be ready.
            Ok(if daemon.ended() {
                Some(false)
            } else {
                all_hooked(&daemon.status()?, &wanted)?.then_some(true)
            })
        });
        match standing {
            Ok(true) => Ok(()),
            Ok(false) => bail!("svc-ctl of {} ended:\n{}", host.name(), daemon.log()),
            Err(error) => Err(error.context(daemon.log())),
        }
    }

    /// Diagnostic output for a failed expectation.
    pub fn diagnosis(&self) -> String {
        let daemons = self.daemons.iter().zip(&self.topology.nodes).map(|(daemon, node)| {
            let name = node.name();
            let status = shown(daemon.ask_status(node).map(without_tables));
            let flows = first_lines(&shown(daemon.get(node, "flows")), 12);
            format!("{name} status: {status}\n{name} flows: {flows}\n{name} log:\n{}\n", daemon.log())
        });
        let reports = [self.checksum_errors(), self.neighbors()];
        daemons.chain(reports.map(|report| report.unwrap_or_else(|error| format!("({error:#})\n")))).collect()
    }

    /// The neighbor entries of every host.
    fn neighbors(&self) -> Result<String> {
        let hosts = self.topology.nodes.iter().flat_map(Node::hosts).chain([&self.topology.client]);
        let tables = hosts.map(|host| {
            let entries = command::run(host.netns.command("ip")?.args(["neigh", "show"]))?;
            Ok(format!("{} has the neighbors:\n{entries}", host.name()))
        });
        tables.collect()
    }

    /// Receivers that counted a wrong checksum or path, one line each.
    pub fn checksum_errors(&self) -> Result<String> {
        let hosts = self.topology.nodes.iter().flat_map(Node::hosts).chain([&self.topology.client]);
        let lines = hosts.map(|host| {
            let counters = nstat_counters(&mut host.netns.command("nstat")?)?;
            let moved: Vec<&str> = counters.lines().filter(|line| !line.starts_with('#')).collect();
            let line = format!("{} counted: {}\n", host.name(), moved.join("; "));
            Ok(if moved.is_empty() { String::new() } else { line })
        });
        lines.collect()
    }
}

fn nstat_counters(nstat: &mut Command) -> Result<String> {
    command::run(nstat.args(["-as", "Tcp*InCsumErrors", "Udp*InCsumErrors", "TcpExtIPReversePathFilter"]))
}

fn all_hooked(status: &Value, interfaces: &[String]) -> Result<bool> {
    ensure!(status["synced"] == true, "not in sync: {status}");
    for interface in interfaces {
        ensure!(has_hooks(status, interface), "no hooks on {interface}: {status}");
    }
    Ok(true)
}

/// The status has the interface with at least one hook.
pub fn has_hooks(status: &Value, interface: &str) -> bool {
    let interfaces = status["interfaces"].as_array();
    let found = interfaces.into_iter().flatten().find(|entry| entry["name"] == interface);
    found.and_then(|entry| entry["hooks"].as_array()).is_some_and(|hooks| !hooks.is_empty())
}

fn shown(answer: Result<Value>) -> String {
    match answer {
        // One entry per line.
        Ok(Value::Array(entries)) => entries.iter().map(|entry| format!("\n  {entry}")).collect(),
        Ok(value) => value.to_string(),
        Err(error) => format!("({error:#})"),
    }
}

/// Status without parts that are long and rarely useful.
fn without_tables(mut status: Value) -> Value {
    if let Some(status) = status.as_object_mut() {
        status.retain(|key, _| key != "tables");
    }
    status
}

fn first_lines(text: &str, count: usize) -> String {
    let mut lines: Vec<&str> = text.lines().take(count).collect();
    if text.lines().count() > count {
        lines.push("...");
    }
    lines.join("\n")
}

/// The folder of one world, removed last.
#[derive(Debug)]
struct Scratch(RunName);

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("SVC_TESTS_KEEP_FILES").is_none()
            && self.0.dir().starts_with(run_name::scratch_dir())
        {
            let _ = std::fs::remove_dir_all(self.0.dir());
        }
    }
}
