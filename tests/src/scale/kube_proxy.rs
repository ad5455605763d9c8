//! The real kube-proxy in nftables mode, with the same objects from the same stub.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::args::Column;
use super::changes::{ApiServer as _, SingleChanges};
use super::column::store;
use super::figures::{Figures, KUBE_PROXY};
use super::node::{Daemon, TestNode};
use super::objects::{NODE, Objects};
use super::population::{PORT, Population};
use super::process::Process;
use super::stub_api::StubApi;
use crate::cluster::Settings;
use crate::command;

const SERVICES: u32 = 10_000;
/// Number of changes; each takes seconds.
const CHANGES: usize = 20;
const START_LIMIT: Duration = Duration::from_secs(300);
const CHANGE_LIMIT: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
const TABLE: [&str; 3] = ["ip", "kube-proxy", "service-ips"];

pub fn measure(figures: &mut Figures) -> Result<()> {
    eprintln!("kube-proxy: {SERVICES} Services");
    let (mut population, objects) = (Population::new(Column::plain(SERVICES)), Objects::new());
    let node = TestNode::new("scale-kube-proxy")?;
    let api = StubApi::start(&node.netns, store(&population, &objects))?;
    let mut daemon = start(&node, &api.url())?;
    await_element(&node, &mut daemon, SERVICES - 1)?;
    let in_force = daemon.started.elapsed();
    figures.seconds("cp.sync", KUBE_PROXY, Some(in_force));

    let process = Process(daemon.id());
    process.await_rest(REST)?;
    let monitor = Monitor::start(&node)?;
    // The monitor first reads the whole ruleset, so the first change is not measured.
    let (mut times, mut before) = (Vec::new(), Duration::ZERO);
    for nth in 0..=CHANGES {
        let service = u32::try_from(nth)? * 479 % SERVICES;
        let endpoint = population.replace_endpoint(service);
        let slice = objects.slice4(&population, service);
        let written = api.write_slices(vec![(service, slice)])?;
        let limit = if nth == 0 { START_LIMIT } else { CHANGE_LIMIT };
        let seen = monitor.await_chain(&format!("__{endpoint}/"), limit)?;
        process.await_rest(REST)?;
        match nth {
            0 => before = process.cpu()?,
            _ => times.push(seen - written),
        }
    }
    let cpu = (process.cpu()? - before) / u32::try_from(CHANGES)?;
    let singles = SingleChanges { times, cpu_per_change: Some(cpu) };
    figures.milliseconds("cp.change_p50", KUBE_PROXY, singles.percentile(50));
    figures.milliseconds("cp.change_p99", KUBE_PROXY, singles.percentile(99));
    figures.milliseconds("cp.cpu_per_change", KUBE_PROXY, singles.cpu_per_change);
    let (rss, peak) = process.memory()?;
    figures.push("cp.rss", KUBE_PROXY, Some(rss), "MB");
    figures.push("cp.rss_peak", KUBE_PROXY, Some(peak), "MB");
    let unserved = f64::from(SERVICES) - count_elements(&node)? as f64;
    figures.push("cp.unserved", KUBE_PROXY, Some(unserved), "Services");
    for request in api.unknown() {
        eprintln!("kube-proxy: the stub has no answer to {request}");
    }
    daemon.check()
}

/// kube-proxy's default settings, except those that cannot be changed outside the machine's first network namespace.
fn start(node: &TestNode, url: &str) -> Result<Daemon> {
    let file = |name: &str| node.dir().join(name);
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stub", "cluster": {"server": url}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub"}}],
        "current-context": "stub",
    });
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": file("kubeconfig")},
        "clusterCIDR": "10.128.0.0/9",
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    write(&file("kubeconfig"), &kubeconfig.to_string())?;
    write(&file("kube-proxy.json"), &config.to_string())?;
    let mut command = node.netns.command(Settings::of_test("scale-kube-proxy")?.program("kube-proxy")?)?;
    command.arg("--config").arg(file("kube-proxy.json"));
    node.start("kube-proxy", command)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// kube-proxy writes its whole first sync in one transaction: if one Service is there, all are.
fn await_element(node: &TestNode, daemon: &mut Daemon, service: u32) -> Result<()> {
    let element = format!("{{ {} . tcp . {PORT} }}", Population::cluster_ip(service));
    while daemon.started.elapsed() < START_LIMIT {
        let mut nft = node.netns.command("nft")?;
        if command::run(nft.args(["get", "element"]).args(TABLE).arg(&element)).is_ok() {
            return Ok(());
        }
        daemon.check()?;
        thread::park_timeout(LOOK);
    }
    bail!("no {element} after {START_LIMIT:?}\n{}", daemon.last_lines())
}

fn count_elements(node: &TestNode) -> Result<usize> {
    let mut nft = node.netns.command("nft")?;
    let list = command::run(nft.args(["list", "map"]).args(TABLE))?;
    Ok(list.matches(": goto ").count())
}

/// `nft monitor`: the kernel reports each new chain once it is in force.
struct Monitor {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Monitor {
    fn start(node: &TestNode) -> Result<Self> {
        let mut nft = node.netns.command("nft")?;
        nft.args(["monitor", "new", "chains"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = nft.spawn().context("start nft monitor")?;
        let stdout = child.stdout.take().context("no pipe from nft monitor")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The time when a chain whose name contains `words` was made.
    fn await_chain(&self, words: &str, limit: Duration) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (seen, line) = self
                .lines
                .recv_timeout(left)
                .with_context(|| format!("no chain with {words} in its name"))?;
            if line.contains(words) {
                return Ok(seen);
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
