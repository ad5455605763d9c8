//! kube-proxy on a node of the topology, in nftables mode.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::topology::Node;
use crate::{command, wait};

const START_LIMIT: Duration = Duration::from_secs(60);
/// Its tables, and the Service CIDR whose unallocated addresses each table should reject.
const TABLES: [(&str, &str); 2] = [("ip kube-proxy", "10.96.0.0/16"), ("ip6 kube-proxy", "fd00:96::/112")];

/// Lines of its log, for each family: it knows the labels of its node; a sync begins.
const ZONE_LINE: &str = "Updated proxier node topology labels";
const SYNC_LINE: &str = "Syncing nftables rules";

/// A running kube-proxy. Dropping it ends it; its rules stay until it starts again.
#[derive(Debug)]
pub struct KubeProxy {
    child: Child,
    log: PathBuf,
}

impl KubeProxy {
    /// Starts it, repeatedly, until its first sync has the Service CIDRs and the zone of its node. If it gets the CIDRs
    /// after its first sync, it does not apply them until the next full sync, in an hour. If it reads its node before
    /// it has registered the handler of zones (`NewNodeTopologyConfig` in its source), it never applies the zone.
    pub fn start(program: &Path, node: &Node, dir: &Path, config: &Value) -> Result<Self> {
        let what = format!("kube-proxy of {} knows the ranges of ClusterIPs and its zone", node.name());
        wait::until(&what, START_LIMIT, || {
            // Rules of an earlier kube-proxy are no result of this one.
            node.host.netns.nft(
                &TABLES.map(|(table, _)| format!("add table {table}\ndelete table {table}\n")).concat(),
            )?;
            let mut started = Self::once(program, node, dir, config)?;
            let rules = wait::until("its first sync", START_LIMIT, || {
                if let Err(ended) = started.check() {
                    return Ok(Some(Err(ended)));
                }
                TABLES
                    .iter()
                    .map(|(table, _)| check_chain(node, table))
                    .collect::<Result<Vec<_>>>()
                    .map(|all| Some(Ok(all)))
            })??;
            let knows_ranges = rules.iter().zip(TABLES).all(|(rules, (_, range))| rules.contains(range));
            Ok((knows_ranges && knows_zone(&started.read_log())).then_some(started))
        })
    }

    fn once(program: &Path, node: &Node, dir: &Path, config: &Value) -> Result<Self> {
        let file = |kind: &str| dir.join(format!("{}-kube-proxy.{kind}", node.name()));
        let (path, log) = (file("json"), file("log"));
        fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
        let output = File::create(&log).context("create kube-proxy's log")?;
        let mut command = node.host.command(program)?;
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.arg("--config").arg(path);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { child: command.spawn().context("start kube-proxy")?, log })
    }

    /// Fails with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("look at kube-proxy")? {
            bail!("kube-proxy ended: {status}\n{}", self.last_words());
        }
        Ok(())
    }

    pub fn last_words(&self) -> String {
        let text = self.read_log();
        let lines: Vec<_> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    fn read_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The proxier of each family got the node's zone before its first sync.
fn knows_zone(log: &str) -> bool {
    ["IPv4", "IPv6"].iter().all(|family| {
        let mut lines = log.lines().filter(|line| line.contains(family));
        lines
            .find(|line| line.contains(ZONE_LINE) || line.contains(SYNC_LINE))
            .is_some_and(|line| line.contains(ZONE_LINE))
    })
}

/// The rules for unserved ClusterIPs, once they exist.
fn check_chain(node: &Node, table: &str) -> Result<String> {
    let mut nft = node.host.netns.command("nft")?;
    let rules = command::run(nft.args(["list", "chain"]).args(table.split(' ')).arg("cluster-ips-check"))?;
    ensure!(rules.contains("@cluster-ips"), "nothing is in it: {rules}");
    Ok(rules)
}
