//! The testbed of BGP: a third node, a router as the client's gateway, and a configuration with its address as a peer.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svc_tests::agent::{Job, Via};
use svc_tests::daemon::{Flags, Source};
use svc_tests::manifests::SERVICE_PORT;
use svc_tests::testbed::Testbed;
use svc_tests::topology::{Addrs, Family, Options};
use svc_tests::world::CHANGE_LIMIT;
use svc_tests::{command, wait};

use super::router::{Kind, Router, Table};

pub const NODES: [usize; 3] = [1, 2, 3];
/// The Service's addresses, of a network that only BGP leads to.
pub const VIP: Addrs =
    Addrs { v4: Ipv4Addr::new(203, 0, 113, 64), v6: Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 0) };
/// The pool.
pub const NETS: [&str; 2] = ["203.0.113.64/29", "2001:db8:64::/125"];
/// Datagrams of the client per second, and the time that each waits for its answer.
const RATE: u32 = 100;
const ANSWER_WITHIN: Duration = Duration::from_millis(20);

/// The hosts and a third node, without daemons. Nodes forward by the switch, which is the client's gateway to the pool.
pub fn set(test: &str) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    testbed.world.topology.add_node()?;
    testbed.world.folder.write_nodes(&testbed.world.topology.nodes)?;
    testbed.world.topology.client_by_gateway(NETS)?;
    Ok(testbed)
}

/// A testbed with a router.
pub struct Lab<'a> {
    pub testbed: &'a mut Testbed,
    pub router: Router,
}

impl<'a> Lab<'a> {
    /// Starts the router, and writes a configuration with it as the only peer.
    pub fn new(testbed: &'a mut Testbed, kind: Kind) -> Result<Self> {
        let (configuration, peer) = match kind {
            Kind::Frr => (frr(&[]), "peerAS: 64500"),
            Kind::Bird => (bird(), "peerAS: 64500, password: secret"),
            Kind::GoBgp => (gobgp(), "peerAS: internal, password: secret"),
        };
        let lab = Self::with(testbed, kind, &configuration)?;
        lab.write_configuration(&format!(
            "{{localAS: 64512, peers: [{{name: router, address: 192.0.2.254, {peer}}}], advertisements: [{{localPreference: 200}}]}}"
        ))?;
        Ok(lab)
    }

    /// Starts a router with this configuration.
    pub fn with(testbed: &'a mut Testbed, kind: Kind, configuration: &str) -> Result<Self> {
        let router = Router::start(kind, testbed.world.topology.lan(), configuration)?;
        Ok(Self { testbed, router })
    }

    /// Writes the section of BGP.
    pub fn write_configuration(&self, bgp: &str) -> Result<()> {
        let text = format!(
            "apiVersion: svc/v1alpha1\nkind: SvcConfiguration\nloadBalancer:\n  pools:\n  - {{name: front, addresses: [{}, \"{}\"]}}\n  bgp: {bgp}\n",
            NETS[0], NETS[1]
        );
        fs::write(self.file(), text).context("write the configuration")
    }

    /// The configuration file.
    pub fn file(&self) -> String {
        self.testbed.world.dir().join("config.conf").display().to_string()
    }

    /// Starts a daemon on each of these nodes, which are the first ones.
    pub fn start(&mut self, nodes: &[usize]) -> Result<()> {
        let flags = vec!["--config".to_owned(), self.file()];
        let world = &mut self.testbed.world;
        for _ in nodes {
            let source = Source::Manifests(world.folder.path().into());
            world.start_next_with(source, Flags::default(), flags.clone())?;
        }
        nodes.iter().try_for_each(|node| world.ready(*node))
    }

    /// Writes the Service with these endpoints.
    pub fn write(&self, backends: &[&str], policy: &str) -> Result<()> {
        let asks = format!(
            "metadata: {{name: web, namespace: default, annotations: {{svc/load-balancer-ips: \"{},{}\"}}}}",
            VIP.v4, VIP.v6
        );
        let manifest = self.testbed.manifest(backends)?;
        let manifest = manifest.replace("metadata: {name: web, namespace: default}", &asks);
        let kind = format!("type: LoadBalancer\n  externalTrafficPolicy: {policy}");
        self.testbed.world.folder.write("web.yaml", &manifest.replace("type: NodePort", &kind))
    }

    /// Labels this node, and no other, as one that load balancers leave out.
    pub fn exclude(&self, node: Option<usize>) -> Result<()> {
        let folder = &self.testbed.world.folder;
        folder.write_nodes(&self.testbed.world.topology.nodes)?;
        let Some(node) = node else { return Ok(()) };
        let path = folder.path().join("nodes.yaml");
        let text = fs::read_to_string(&path)?;
        let label = "labels: {node.kubernetes.io/exclude-from-external-load-balancers: \"\"}";
        let text = text.replace(
            &format!("metadata: {{name: node{node}}}"),
            &format!("metadata: {{name: node{node}, {label}}}"),
        );
        folder.write("nodes.yaml", &text)
    }

    pub fn node(&self, node: usize, family: Family) -> IpAddr {
        self.testbed.world.topology.node(node).host.addrs.of(family)
    }

    /// Both addresses answer the client.
    pub fn is_dialled(&self) -> Result<()> {
        for family in Family::BOTH {
            let to = SocketAddr::new(VIP.of(family), SERVICE_PORT);
            for via in [Via::Tcp, Via::UdpUnconnected] {
                wait::until_true(&format!("{to} answers {via}"), CHANGE_LIMIT, || {
                    self.testbed.agent("client")?.ask(via, to, 1).map(|_| true)
                })?;
            }
        }
        Ok(())
    }

    /// An address of the pool that no Service has does not answer the client.
    pub fn is_unanswered(&self, family: Family) -> Result<()> {
        let ip: IpAddr = match family {
            Family::V4 => Ipv4Addr::new(203, 0, 113, 66).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 2).into(),
        };
        let answers =
            self.testbed.agent("client")?.ask(Via::UdpUnconnected, SocketAddr::new(ip, SERVICE_PORT), 1);
        ensure!(answers.is_err(), "a host answers at {ip}");
        Ok(())
    }

    /// Packets to unused addresses that the nodes have dropped.
    pub fn dropped(&mut self) -> Result<u64> {
        NODES.into_iter().try_fold(0, |sum, node| {
            let status = self.testbed.world.daemon(node)?.status()?;
            Ok(sum + status["counters"]["drop_unallocated"].as_u64().unwrap_or(0))
        })
    }

    /// The client begins to ask for each address, a hundred times a second.
    pub fn ask(&self) -> Result<Vec<Job>> {
        let client = self.testbed.agent("client")?;
        let start = |family: Family| {
            let to = SocketAddr::new(VIP.of(family), SERVICE_PORT);
            client.start_datagrams_within(ANSWER_WITHIN, Via::UdpUnconnected, to, RATE)
        };
        Family::BOTH.into_iter().map(start).collect()
    }

    /// The report of `svc-ctl lb` on a node.
    pub fn lb(&mut self, node: usize) -> Result<Value> {
        serde_json::from_str(&self.lb_as(node, "json")?).context("the output of svc-ctl lb")
    }

    /// The same as a table.
    pub fn lb_text(&mut self, node: usize) -> Result<String> {
        self.lb_as(node, "table")
    }

    fn lb_as(&mut self, node: usize, format: &str) -> Result<String> {
        let (host, daemon) = self.testbed.world.on_node(node)?;
        let mut lb = host.host.command(daemon.binary())?;
        command::run(lb.args(["lb", "-o", format, "--run-dir"]).arg(daemon.run_dir()))
    }

    /// Complaints of a node whose object begins so, as text.
    pub fn complaints(&mut self, node: usize, object: &str) -> Result<Vec<String>> {
        let all = self.testbed.world.daemon(node)?.complaints()?;
        let of_object =
            all.iter().filter(|c| c["object"].as_str().is_some_and(|text| text.starts_with(object)));
        Ok(of_object.filter_map(|c| c["reason"].as_str()).map(str::to_owned).collect())
    }
}

/// Next hops of the Service's address.
pub fn hops(table: &Table, family: Family) -> BTreeSet<IpAddr> {
    let bits = if family == Family::V4 { 32 } else { 128 };
    table.get(&format!("{}/{bits}", VIP.of(family))).cloned().unwrap_or_default()
}

/// FRR with all nodes as peers, which dial by IPv4; and further settings of each peer.
pub fn frr(settings: &[&str]) -> String {
    frr_by(Family::V4, settings)
}

/// [`frr`] with sessions over either family.
pub fn frr_by(transport: Family, settings: &[&str]) -> String {
    let network = if transport == Family::V4 { "192.0.2." } else { "2001:db8:1::" };
    let mut text = "router bgp 64500\n bgp router-id 192.0.2.254\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
                    bgp graceful-restart\n"
        .to_owned();
    for node in NODES {
        for setting in [&["remote-as 64512", "passive"], settings].concat() {
            text.push_str(&format!(" neighbor {network}{node} {setting}\n"));
        }
    }
    for family in ["ipv4", "ipv6"] {
        text.push_str(&format!(" address-family {family} unicast\n  maximum-paths 8\n"));
        for node in NODES {
            text.push_str(&format!("  neighbor {network}{node} activate\n"));
        }
        text.push_str(" exit-address-family\n");
    }
    text
}

fn bird() -> String {
    let protocols = NODES.map(|node| {
        format!(
            "protocol bgp node{node} {{\n  local 192.0.2.254 as 64500;\n  neighbor 192.0.2.{node} as 64512;\n  passive on;\n  \
             password \"secret\";\n  ipv4 {{ import all; export none; }};\n  ipv6 {{ import all; export none; }};\n}}\n"
        )
    });
    format!(
        "router id 192.0.2.254;\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n\
         protocol kernel {{ ipv4 {{ export all; }}; merge paths on; }}\nprotocol kernel {{ ipv6 {{ export all; }}; merge paths on; }}\n{}",
        protocols.concat()
    )
}

/// GoBGP of the nodes' own autonomous system.
fn gobgp() -> String {
    let peers = NODES.map(|node| {
        format!(
            "- config: {{neighbor-address: 192.0.2.{node}, peer-as: 64512, auth-password: secret}}\n  \
             transport: {{config: {{passive-mode: true}}}}\n  \
             afi-safis:\n  - {{config: {{afi-safi-name: ipv4-unicast}}}}\n  - {{config: {{afi-safi-name: ipv6-unicast}}}}\n"
        )
    });
    format!("global: {{config: {{as: 64512, router-id: 192.0.2.254}}}}\nneighbors:\n{}", peers.concat())
}
