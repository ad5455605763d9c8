//! A node for one daemon: a network namespace with an unused uplink, a cgroup, a bpffs, a folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::objects::NODE;
use crate::bpffs::BpfFs;
use crate::cgroup::Cgroup;
use crate::netns::Netns;
use crate::run_name::RunName;
use crate::{command, daemon};

/// Dropping it removes everything.
#[derive(Debug)]
pub struct TestNode {
    // Dropped in this order: the pins hold programs on the interfaces and the cgroup.
    bpffs: BpfFs,
    cgroup: Cgroup,
    pub netns: Netns,
    folder: Folder,
}

impl TestNode {
    pub fn new(name: &str) -> Result<Self> {
        let name = RunName::new(name);
        let folder = Folder(name.dir());
        fs::create_dir_all(folder.0.join("run")).with_context(|| format!("make {}", folder.0.display()))?;
        let netns = Netns::new(name.as_str())?;
        netns.ip("link add eth0 type veth peer name wire0\n\
             addr add 192.0.2.1/24 dev eth0\naddr add 2001:db8:1::1/64 dev eth0 nodad\n\
             link set eth0 up\nlink set wire0 up\n\
             route add default via 192.0.2.254\nroute add default via 2001:db8:1::254")?;
        netns.sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
        let cgroup = Cgroup::new(name.as_str())?;
        let bpffs = BpfFs::mount(&folder.0.join("bpffs"))?;
        Ok(Self { bpffs, cgroup, netns, folder })
    }

    /// Joins the network of a real control plane; returns the interface.
    pub fn join(&self, hub: &Netns) -> Result<&'static str> {
        let name = self.netns.name();
        hub.ip(&format!(
            "link add scale0 type veth peer name api0 netns {name}\nlink set scale0 master br0 up"
        ))?;
        self.netns.ip("addr add 172.30.0.99/24 dev api0\nlink set api0 up")?;
        Ok("api0")
    }

    pub fn pins(&self) -> &Path {
        self.bpffs.path()
    }

    pub fn dir(&self) -> &Path {
        &self.folder.0
    }

    pub fn status_path(&self) -> PathBuf {
        self.dir().join("run/status.json")
    }

    /// Starts svc-ctl on this node with these flags for the API server.
    pub fn start_svc(&self, api: &[String]) -> Result<Daemon> {
        let mut command = self.netns.command(daemon::find()?)?;
        for variable in ["KUBECONFIG", "NODE_NAME", "SVC_MASTER", "RUST_LOG"] {
            command.env_remove(variable);
        }
        command.args(["run", "--source", "kubernetes", "--hostname-override", NODE]).args(api);
        command.arg("--pin-dir").arg(self.pins()).arg("--run-dir").arg(self.dir().join("run"));
        command.arg("--cgroup").arg(self.cgroup.path());
        command.args(["--uplink", "eth0", "--exclude-interface", "wire0"]);
        // They cost nothing until the first scrape.
        command.args(["--metrics-service-ports", "1000000"]);
        self.start("svc-ctl", command)
    }

    /// Starts any daemon on this node, with a log in its folder.
    pub fn start(&self, name: &str, mut command: Command) -> Result<Daemon> {
        let path = self.dir().join(format!("{name}.log"));
        let log = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        self.cgroup.contain(&mut command)?;
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Daemon { name: name.to_owned(), child, log: path, started })
    }
}

/// A running daemon; dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    pub started: Instant,
}

impl Daemon {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with the last lines of the log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("look at the daemon")? {
            Some(status) => bail!("{} ended: {status}\n{}", self.name, self.last_lines()),
            None => Ok(()),
        }
    }

    /// It has written these words into its log.
    pub fn has_logged(&self, words: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|log| log.contains(words))
    }

    pub fn last_lines(&self) -> String {
        command::last_lines(&self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("SVC_TESTS_KEEP_FILES").is_none() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
