//! Reads the facts that the checks judge. It changes nothing on the host, and a failure to read is a fact as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cluster::{ClusterFacts, Permission};
use super::coexistence::{CoexistenceFacts, Hook, InterfaceFact, XDP};
use super::daemon::DaemonFacts;
use super::host::HostFacts;
use super::nodes::{NodeFacts, ask};
use crate::dataplane::features::Features;
use crate::dataplane::hooks::TcHook;
use crate::dataplane::pins::is_locked;
use crate::dataplane::{nf_tables, probe};
use crate::node::roles::{RoleRules, assign, role_name};
use crate::node::snat_ports::{EphemeralPorts, choose, overlap};
use crate::node::{self, Interfaces, cgroup, sysctl};
use crate::observe::status::StatusFile;
use crate::programs::firewall;
use crate::reconcile::unix_ms;
use crate::source::kubernetes::{self, rights};

/// Time limit for all requests to the API server.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    pub host: HostFacts,
    pub coexistence: CoexistenceFacts,
    pub cluster: ClusterFacts,
    pub daemon: DaemonFacts,
    pub nodes: NodeFacts,
}

/// Files, folders and servers from which the facts are read.
#[derive(Clone, Debug)]
pub struct FactSources {
    pub pin_dir: PathBuf,
    pub run_dir: PathBuf,
    pub cgroup: Option<PathBuf>,
    pub api: kubernetes::Options,
    pub roles: RoleRules,
    /// Closed chains do not matter.
    pub masquerades_local: bool,
    /// Every node is asked at this port.
    pub all_nodes: Option<u16>,
}

pub async fn read(sources: &FactSources) -> Facts {
    let interfaces = interfaces().await.unwrap_or_default();
    Facts {
        host: host(sources),
        coexistence: coexistence(sources, &interfaces),
        cluster: cluster(&sources.api).await,
        daemon: DaemonFacts {
            is_running: is_locked(&sources.run_dir.join("lock")),
            status: StatusFile::read(&sources.run_dir).ok(),
            now: unix_ms(),
        },
        nodes: match sources.all_nodes {
            Some(port) => nodes(&sources.api, port).await,
            None => NodeFacts::NotAsked,
        },
    }
}

fn host(sources: &FactSources) -> HostFacts {
    let setting = |name: &str| Some(sysctl(name)? == "1");
    let ephemeral = EphemeralPorts::of_host();
    let text = |result: std::io::Result<()>| result.map_err(|error| error.to_string());
    let dir = sources.pin_dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    HostFacts {
        kernel: sysctl("kernel/osrelease").unwrap_or_default(),
        features: Features::detect(),
        map: text(probe::try_map()),
        netns_cookie: text(probe::try_netns_cookie()),
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        cgroup: cgroup::find(sources.cgroup.as_deref())
            .map(|dir| dir.map(|dir| dir.display().to_string()))
            .map_err(|error| format!("{error:#}")),
        pin_dir: (dir.display().to_string(), probe::is_bpffs(dir)),
        forwarding: ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(setting),
        ephemeral_node_ports: ephemeral.node_ports(),
        shared_snat_ports: overlap(choose(&ephemeral), &ephemeral)
            .map(|(sysctl, reason)| (sysctl.to_owned(), reason)),
    }
}

/// The interfaces, once.
async fn interfaces() -> anyhow::Result<Interfaces> {
    let (sender, mut observed) = watch::channel(None);
    let watching = tokio::spawn(node::watch::run(sender));
    let seen = timeout(PATIENCE, observed.wait_for(Option::is_some)).await??.clone();
    watching.abort();
    Ok(seen.context("no interface was listed")?.interfaces)
}

fn coexistence(sources: &FactSources, interfaces: &Interfaces) -> CoexistenceFacts {
    let chains = nf_tables::chains().unwrap_or_default();
    let roles = assign(interfaces, &sources.roles);
    let list = || interfaces.list.iter().filter(|interface| !interface.is_loopback);
    let mut xdp = probe::xdp_programs();
    let mut hooks = Vec::new();
    for interface in list() {
        let hook = |direction, programs| Hook { interface: interface.name.clone(), direction, programs };
        hooks.extend(xdp.remove(&interface.index).map(|program| hook(XDP, vec![program])));
        hooks.extend(
            [TcHook::Ingress, TcHook::Egress]
                .map(|at| hook(at.label(), probe::tc_programs(&interface.name, interface.index, at))),
        );
    }
    let fact = |interface: &node::Interface| {
        let assignment = roles.get(&interface.index)?;
        Some(InterfaceFact {
            name: interface.name.clone(),
            role: role_name(assignment.role),
            doubt: assignment.doubt.clone(),
        })
    };
    let closed = firewall::closed(&chains, sources.masquerades_local);
    CoexistenceFacts {
        kube_proxies: kube_proxies(),
        proxy_tables: firewall::tables_of_kube_proxy(&chains).into_iter().map(ToOwned::to_owned).collect(),
        legacy_tables: legacy_tables(),
        ipvs_interfaces: list().filter(|i| i.is_of_another_proxy()).map(|i| i.name.clone()).collect(),
        closed_chains: closed
            .map(|chain| {
                let reason = "forwarded packets are dropped unless a rule accepts them";
                (format!("{} {}", chain.table, chain.name), reason.to_owned())
            })
            .collect(),
        hooks,
        interfaces: list().filter_map(fact).collect(),
    }
}

/// Tables of iptables-legacy in this network namespace. The kernel lists them only after their first use.
fn legacy_tables() -> Vec<String> {
    let mut tables = Vec::new();
    for (file, family) in [("ip_tables_names", ""), ("ip6_tables_names", " (IPv6)")] {
        let names = fs::read_to_string(Path::new("/proc/net").join(file)).unwrap_or_default();
        tables.extend(names.lines().map(|name| format!("{name}{family}")));
    }
    tables
}

/// Processes of that name in this network namespace: from within a container those of the node are not in sight.
fn kube_proxies() -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let own = network(Path::new("/proc/self"));
    let pid = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let is_here = name.trim() == "kube-proxy" && network(&entry.path()) == own;
        is_here.then(|| entry.file_name().to_string_lossy().parse().ok()).flatten()
    };
    processes.filter_map(pid).collect()
}

async fn cluster(options: &kubernetes::Options) -> ClusterFacts {
    let has_account = options.service_account.join("token").exists();
    if options.kubeconfig.is_none() && options.master.is_none() && !has_account {
        let is_skipped = Some("no API server is named: nothing was asked".to_owned());
        return ClusterFacts { is_skipped, server: Err(String::new()), rights: Vec::new() };
    }
    let asked = async {
        let client = kubernetes::connect(options).await?;
        anyhow::Ok((rights::version(&client).await?, rights::rights(&client).await?))
    };
    let answer = match timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let right = |(name, is_allowed, is_needed)| Permission { name, is_allowed, is_needed };
    let (server, rights) = match answer {
        Ok((version, rights)) => (Ok(version), rights.into_iter().map(right).collect()),
        Err(error) => (Err(error), Vec::new()),
    };
    ClusterFacts { is_skipped: None, server, rights }
}

/// The nodes that the API server lists, with the answer of each.
async fn nodes(options: &kubernetes::Options, port: u16) -> NodeFacts {
    let listed = async {
        let client = kubernetes::connect(options).await?;
        rights::nodes(&client).await
    };
    match timeout(PATIENCE, listed).await {
        Ok(Ok(nodes)) => NodeFacts::Asked(ask::all(nodes, port).await),
        Ok(Err(error)) => NodeFacts::Unknown(format!("{error:#}")),
        Err(_) => NodeFacts::Unknown(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
