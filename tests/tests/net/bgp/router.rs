//! Real routers in the middle of the network, each with its own configuration, and the routes that they have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::User;
use serde_json::Value;
use svc_tests::netns::Netns;
use svc_tests::{command, wait};

/// A router is ready within this time.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Folder of FRR's daemons, which are not in PATH.
const FRR: &str = "/usr/lib/frr";

/// Next hops by prefix.
pub type Table = BTreeMap<String, BTreeSet<IpAddr>>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Frr,
    Bird,
    GoBgp,
}

impl Kind {
    /// Why this machine cannot run it, if it cannot.
    pub fn missing(self) -> Option<String> {
        let (program, package) = match self {
            Self::Frr => (Path::new(FRR).join("bgpd"), "frr"),
            Self::Bird => (PathBuf::from("/usr/sbin/bird"), "bird2"),
            Self::GoBgp => (PathBuf::from("/usr/bin/gobgpd"), "gobgpd"),
        };
        (!program.exists()).then(|| format!("{} is missing: install {package}", program.display()))
    }
}

/// A running router. Dropping it ends its processes and removes its files.
pub struct Router {
    kind: Kind,
    netns: String,
    dir: PathBuf,
    processes: Vec<Child>,
}

impl Router {
    /// Starts a router with this configuration and waits until it answers questions.
    pub fn start(kind: Kind, netns: &Netns, configuration: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("{}-{kind:?}", netns.name()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let mut router = Self { kind, netns: netns.name().to_owned(), dir, processes: Vec::new() };
        router.launch(netns, configuration)?;
        wait::until_true(&format!("{kind:?} answers"), START_LIMIT, || {
            for process in &mut router.processes {
                if let Some(status) = process.try_wait()? {
                    bail!("{kind:?} ended: {status}");
                }
            }
            Ok(router.table().is_ok())
        })
        .with_context(|| router.log())?;
        Ok(router)
    }

    fn launch(&mut self, netns: &Netns, configuration: &str) -> Result<()> {
        let dir = self.dir.clone();
        let file = |name: &str| dir.join(name).display().to_string();
        match self.kind {
            Kind::Frr => {
                // FRR's daemons give up root, and need a folder of their own.
                let user = User::from_name("frr")?.context("no user frr")?;
                for (name, text) in [("zebra.conf", "hostname router\n"), ("bgpd.conf", configuration)] {
                    fs::write(dir.join(name), text)?;
                    chown(dir.join(name), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
                }
                chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
                for daemon in ["zebra", "bgpd"] {
                    let mut program = netns.command(Path::new(FRR).join(daemon))?;
                    program.args(["-u", "frr", "-g", "frr", "-P", "0", "-z", &file("zserv"), "--vty_socket"]);
                    program.arg(&dir).args(["-f", &file(&format!("{daemon}.conf"))]);
                    program.args(["-i", &file(&format!("{daemon}.pid"))]);
                    self.spawn(&mut program)?;
                    let socket = if daemon == "zebra" { "zserv" } else { "bgpd.vty" };
                    wait::until_true(&format!("{daemon} has {socket}"), START_LIMIT, || {
                        Ok(dir.join(socket).exists())
                    })?;
                }
                Ok(())
            }
            Kind::Bird => {
                fs::write(dir.join("bird.conf"), configuration)?;
                let mut program = netns.command("/usr/sbin/bird")?;
                program.args([
                    "-f",
                    "-c",
                    &file("bird.conf"),
                    "-s",
                    &file("bird.ctl"),
                    "-P",
                    &file("bird.pid"),
                ]);
                self.spawn(&mut program)
            }
            Kind::GoBgp => {
                fs::write(dir.join("gobgpd.yaml"), configuration)?;
                let mut program = netns.command("/usr/bin/gobgpd")?;
                program.args(["-t", "yaml", "-f", &file("gobgpd.yaml"), "--api-hosts", "127.0.0.1:50051"]);
                self.spawn(&mut program)
            }
        }
    }

    fn spawn(&mut self, program: &mut Command) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let child = program.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.processes.push(child.with_context(|| format!("start {program:?}"))?);
        Ok(())
    }

    /// The end of what its processes wrote.
    pub fn log(&self) -> String {
        command::last_lines(&self.dir.join("log"))
    }

    fn command(&self, program: &str) -> Result<Command> {
        Netns::of_others(&self.netns).command(program)
    }

    /// Runs a command of FRR's shell.
    pub fn vtysh(&self, text: &str) -> Result<String> {
        command::run(self.command("vtysh")?.arg("--vty_socket").arg(&self.dir).args(["-c", text]))
    }

    /// Runs a command of BIRD's shell.
    pub fn birdc(&self, text: &[&str]) -> Result<String> {
        command::run(
            self.command("/usr/sbin/birdc")?.arg("-r").arg("-s").arg(self.dir.join("bird.ctl")).args(text),
        )
    }

    /// Runs a command of GoBGP's shell.
    pub fn gobgp(&self, text: &[&str]) -> Result<Value> {
        let text = command::run(self.command("/usr/bin/gobgp")?.args(["-j"]).args(text))?;
        serde_json::from_str(&text).with_context(|| format!("gobgp: {text}"))
    }

    /// The routes that it has by BGP, of both families.
    pub fn table(&self) -> Result<Table> {
        let mut table = Table::new();
        match self.kind {
            Kind::Frr => {
                for family in ["ipv4", "ipv6"] {
                    let text = self.vtysh(&format!("show bgp {family} unicast json"))?;
                    let all: Value = serde_json::from_str(&text).context("the JSON of FRR")?;
                    for (prefix, paths) in all["routes"].as_object().into_iter().flatten() {
                        let paths = paths.as_array().into_iter().flatten();
                        let hops = paths.flat_map(|path| path["nexthops"].as_array().into_iter().flatten());
                        let hops = hops.filter(|hop| hop["scope"] != "link-local");
                        let hops = hops.filter_map(|hop| hop["ip"].as_str()?.parse::<IpAddr>().ok());
                        table.entry(prefix.clone()).or_default().extend(hops);
                    }
                }
            }
            Kind::Bird => {
                for name in ["master4", "master6"] {
                    let mut prefix = String::new();
                    for line in self.birdc(&["show", "route", "table", name])?.lines() {
                        if let Some(first) = line.split_whitespace().next().filter(|word| word.contains('/'))
                        {
                            prefix = first.to_owned();
                        }
                        let hop = line.trim().strip_prefix("via ").and_then(|rest| rest.split(' ').next());
                        if let Some(hop) = hop {
                            table.entry(prefix.clone()).or_default().insert(hop.parse()?);
                        }
                    }
                }
            }
            Kind::GoBgp => {
                for family in ["ipv4", "ipv6"] {
                    let all = self.gobgp(&["global", "rib", "-a", family])?;
                    for (prefix, paths) in all.as_object().into_iter().flatten() {
                        for path in paths.as_array().into_iter().flatten() {
                            let attributes = path["attrs"].as_array().into_iter().flatten();
                            let hops =
                                attributes.filter_map(|a| a["nexthop"].as_str()?.parse::<IpAddr>().ok());
                            table.entry(prefix.clone()).or_default().extend(hops);
                        }
                    }
                }
            }
        }
        Ok(table)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}
