//! kube-proxy on a node of the topology, in nftables mode.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::topology::Node;

/// A running kube-proxy; dropping it ends it, and its rules stay until it starts again.
#[derive(Debug)]
pub struct KubeProxy {
    child: Child,
    log: PathBuf,
}

impl KubeProxy {
    pub fn start(program: &Path, node: &Node, dir: &Path, config: &Value) -> Result<Self> {
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

    /// An error with its last words if it has ended.
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
