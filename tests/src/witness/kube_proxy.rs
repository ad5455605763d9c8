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

/// A running kube-proxy. Dropping it ends it; its rules stay until it starts again.
#[derive(Debug)]
pub struct KubeProxy {
    child: Child,
    log: PathBuf,
}

impl KubeProxy {
    /// Starts it, repeatedly, until it knows the Service CIDRs. If it hears of them after its first sync, it does not
    /// apply them until the next full sync, in an hour.
    pub fn start(program: &Path, node: &Node, dir: &Path, config: &Value) -> Result<Self> {
        let what = format!("kube-proxy of {} knows the ranges of ClusterIPs", node.name());
        wait::until(&what, START_LIMIT, || {
            // Rules of an earlier kube-proxy say nothing about this one.
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
            let is_whole = rules.iter().zip(TABLES).all(|(rules, (_, range))| rules.contains(range));
            Ok(is_whole.then_some(started))
        })
    }

    fn once(program: &Path, node: &Node, dir: &Path, config: &Value) -> Result<Self> {
        let file = |kind: &str| dir.join(format!("{}-kube-proxy.{kind}", node.name()));
        let (path, log) = (file("json"), file("log"));
        fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
        let output = File::options().create(true).append(true).open(&log).context("open kube-proxy's log")?;
        let mut command = node.host.command(program)?;
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.arg("--config").arg(path).arg("--v=2");
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
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rules for unserved ClusterIPs, once they exist.
fn check_chain(node: &Node, table: &str) -> Result<String> {
    let mut nft = node.host.netns.command("nft")?;
    let rules = command::run(nft.args(["list", "chain"]).args(table.split(' ')).arg("cluster-ips-check"))?;
    ensure!(rules.contains("@cluster-ips"), "nothing is in it: {rules}");
    Ok(rules)
}
