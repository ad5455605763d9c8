//! Two nodes with pods and Services, and daemons of either version.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_common::abi::TABLES_ABI;
use svc_tests::agent::Agent;
use svc_tests::daemon::{self, Daemon, Flags, Source};
use svc_tests::manifests::{SERVICE_PORT, Service};
use svc_tests::testbed;
use svc_tests::topology::{Family, Offloads, Options, service};
use svc_tests::wait;
use svc_tests::world::World;

/// On a busy machine: programs are loaded and every hook is moved.
const TURN_LIMIT: Duration = Duration::from_secs(60);
/// Timeout of session affinity in seconds: longer than any scenario.
const LONG: u32 = 1_000;

/// A build of svc-ctl.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    This,
    Next,
}

impl Version {
    pub const fn other(self) -> Self {
        match self {
            Self::This => Self::Next,
            Self::Next => Self::This,
        }
    }

    fn binary(self) -> Result<PathBuf> {
        match self {
            Self::This => daemon::find(),
            Self::Next => daemon::find_next(),
        }
    }

    const fn abi(self) -> u32 {
        match self {
            Self::This => TABLES_ABI,
            Self::Next => TABLES_ABI + 1,
        }
    }

    /// The folder of its tables.
    pub fn tables(self, daemon: &Daemon) -> PathBuf {
        daemon.pins().join(format!("v{}", self.abi()))
    }
}

/// A Service of the testbed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    number: u8,
    is_sticky: bool,
    backends: &'static [&'static str],
}

pub const NEAR: Target = Target { name: "near", number: 10, is_sticky: false, backends: &["near"] };
pub const FAR: Target = Target { name: "far", number: 11, is_sticky: false, backends: &["far"] };
/// With session affinity.
pub const STICKY: Target =
    Target { name: "sticky", number: 12, is_sticky: true, backends: &["near", "far", "node1", "node2"] };

impl Target {
    pub fn cluster_ip(self, family: Family) -> std::net::SocketAddr {
        (service(self.number).of(family), SERVICE_PORT).into()
    }

    const fn port(self) -> u16 {
        30_080 + self.number as u16
    }
}

/// Client pod `pod` and server `near` on node1, server `far` on node2, servers on both nodes.
pub struct Testbed {
    pub world: World,
}

impl Testbed {
    fn new(test: &str, xdp: Xdp) -> Result<Self> {
        let options = Options { offloads: xdp.offloads(), ..Options::default() };
        let mut testbed = Self { world: testbed::Testbed::without_svc(test, options)?.world };
        testbed.world.end_cni_masquerade()?;
        for target in [NEAR, FAR, STICKY] {
            testbed.set_backends(target, target.backends)?;
        }
        testbed.world.start(Flags { xdp: xdp.flag(), ..Flags::default() })?;
        Ok(testbed)
    }

    pub fn set_backends(&self, target: Target, names: &[&str]) -> Result<()> {
        let service = Service {
            name: target.name.into(),
            cluster: service(target.number),
            node_port: target.port(),
            external: None,
            affinity: target.is_sticky.then_some(LONG),
            backends: names.iter().map(|name| self.world.backend(name)).collect::<Result<_>>()?,
        };
        self.world.folder.write_service(&service)
    }

    pub fn agent(&self, name: &str) -> Result<&Arc<Agent>> {
        Ok(&self.world.topology.host(name)?.agent)
    }

    pub fn node_port(&self, node: usize, target: Target, family: Family) -> std::net::SocketAddr {
        (self.world.topology.node(node).host.addrs.of(family), target.port()).into()
    }

    /// Kills the node's daemon and starts one of this version in its place.
    pub fn start(&mut self, node: usize, version: Version) -> Result<()> {
        let (host, daemon) = self.world.on_node(node)?;
        daemon.kill()?;
        daemon.binary = version.binary()?;
        daemon.start(host)
    }

    /// Like [`Self::start`], with an API server that does not answer.
    pub fn start_without_lists(&mut self, node: usize, version: Version) -> Result<()> {
        let (kubeconfig, ca) = (self.world.dir().join("away.kubeconfig"), self.world.dir().join("away.pem"));
        // The client needs one, though no server shows a certificate.
        std::fs::write(&ca, rcgen::generate_simple_self_signed(["away".to_owned()])?.cert.pem())?;
        std::fs::write(
            &kubeconfig,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: away\n\
                 clusters: [{{name: away, cluster: {{server: 'https://127.0.0.1:1', certificate-authority: '{}'}}}}]\n\
                 users: [{{name: away, user: {{}}}}]\n\
                 contexts: [{{name: away, context: {{cluster: away, user: away}}}}]\n",
                ca.display()
            ),
        )?;
        let node_name = self.world.topology.node(node).name().to_owned();
        let (_, daemon) = self.world.on_node(node)?;
        let away = Source::Kubernetes { kubeconfig, node_name, link: "away0".into() };
        let lists = std::mem::replace(&mut daemon.source, away);
        let started = self.start(node, version);
        self.world.daemon(node)?.source = lists;
        started
    }

    /// Waits until only tables of this version are left, and the node's daemon is ready.
    pub fn finish(&mut self, node: usize, version: Version) -> Result<()> {
        let (_, daemon) = self.world.on_node(node)?;
        wait::until_true("every hook is moved", TURN_LIMIT, || {
            ensure!(!daemon.ended(), "svc-ctl ended");
            Ok(version.tables(daemon).exists() && !version.other().tables(daemon).exists())
        })
        .with_context(|| format!("node{node}, {version:?}: {}", daemon.log()))?;
        self.world.ready(node)
    }
}

/// Whether XDP programs run, natively.
#[derive(Clone, Copy, Debug)]
pub enum Xdp {
    Off,
    Native,
}

impl Xdp {
    const fn flag(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Native => "native",
        }
    }

    const fn offloads(self) -> Offloads {
        match self {
            Self::Off => Offloads::Default,
            Self::Native => Offloads::ForXdp,
        }
    }
}

/// A scenario as a test.
pub fn scenario(sentence: &str, xdp: Xdp, act: fn(&mut Testbed) -> Result<()>) -> Trial {
    let short: String = sentence.split(' ').filter_map(|word| word.chars().next()).collect();
    let name = format!("XDP {}: {sentence}", xdp.flag());
    let short = format!("{} {short}", xdp.flag());
    Trial::test(name, move || {
        let mut testbed = Testbed::new(&short, xdp).map_err(|error| format!("no testbed: {error:#}"))?;
        act(&mut testbed).map_err(|error| format!("{error:#}\n{}", testbed.world.diagnosis()).into())
    })
}
