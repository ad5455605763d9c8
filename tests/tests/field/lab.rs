//! The lab of all cases: the usual hosts, and a Service for each of three backends.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use svc_tests::agent::{Probe, Tried, Via};
use svc_tests::manifests::{SERVER_PORT, SERVICE_PORT, Service};
use svc_tests::testbed::Testbed;
use svc_tests::topology::{Addrs, Family, Options, service};
use svc_tests::wait;
use svc_tests::world::{CHANGE_LIMIT, World};

use crate::case::{ClientOutcome, Row, Target, Way};

/// The backends: a pod beside the client pod, a pod of the other node, and the client pod itself.
const BACKENDS: [&str; 3] = ["near", "far", "pod"];

/// Client pod `pod` and pod `near` on node1, pod `far` on node2, a server on each, and Services with their names.
#[derive(Debug)]
pub struct Lab {
    pub world: World,
    pub services: Vec<Service>,
}

impl Lab {
    pub fn new(test: &str, options: Options) -> Result<Self> {
        let testbed = Testbed::without_svc(test, options)?;
        testbed.route_client_to_pods()?;
        let node = testbed.world.topology.node(1).host.addrs;
        testbed.world.topology.client.netns.ip(&format!(
            "route add {}/24 via {}\nroute add {}/64 via {}",
            external(0).v4,
            node.v4,
            external(0).v6,
            node.v6
        ))?;
        let world = testbed.world;
        let mut services = Vec::new();
        for (n, name) in (0..).zip(BACKENDS) {
            let service = Service {
                name: name.into(),
                cluster: service(10 + n),
                node_port: 30080 + u16::from(n),
                external: Some(external(n)),
                affinity: None,
                backends: vec![world.backend(name)?],
            };
            world.folder.write_service(&service)?;
            services.push(service);
        }
        Ok(Self { world, services })
    }

    /// Opens FORWARD of both nodes, also for what conntrack finds invalid.
    pub fn forward_all(&self) -> Result<()> {
        let rules = "flush chain inet strict forward\nadd chain inet strict forward { policy accept; }";
        self.world.topology.nodes.iter().try_for_each(|node| node.host.netns.nft(rules))
    }

    /// Netfilter of node1 does not see bridged packets.
    pub fn filter_no_bridge(&self) -> Result<()> {
        let settings = ["iptables", "ip6tables"].map(|of| format!("net/bridge/bridge-nf-call-{of}"));
        let settings = settings.each_ref().map(|key| (key.as_str(), "0"));
        self.world.topology.node(1).host.netns.sysctl(&settings)
    }

    pub fn service(&self, name: &str) -> Result<&Service> {
        self.services
            .iter()
            .find(|service| service.name == name)
            .with_context(|| format!("no Service {name}"))
    }

    /// Rewrites the manifest of a Service with one part replaced.
    pub fn edit(&self, name: &str, part: &str, replacement: &str) -> Result<()> {
        let yaml = self.service(name)?.yaml();
        ensure!(yaml.contains(part), "{part:?} is not in {yaml}");
        self.world.folder.write(&format!("{name}.yaml"), &yaml.replacen(part, replacement, 1))
    }

    pub fn address(&self, target: Target, family: Family) -> Result<SocketAddr> {
        let at = |addrs: Addrs, port: u16| SocketAddr::from((addrs.of(family), port));
        Ok(match target {
            Target::Own(host) => at(self.world.topology.host(host)?.addrs, SERVER_PORT),
            Target::ClusterIp(name) => at(self.service(name)?.cluster, SERVICE_PORT),
            Target::External(name) => {
                let addrs = self.service(name)?.external.with_context(|| format!("{name} has none"))?;
                at(addrs, SERVICE_PORT)
            }
            Target::NodePort(name) => {
                at(self.world.topology.node(1).host.addrs, self.service(name)?.node_port)
            }
            Target::NodePortAt(name, addrs) => at(addrs, self.service(name)?.node_port),
        })
    }

    /// The address that a client dials: the Service, or without a proxy the backend itself.
    pub fn dialled(
        &self,
        way: Way,
        target: Target,
        server: &'static str,
        family: Family,
    ) -> Result<SocketAddr> {
        self.address(if way == Way::Direct { Target::Own(server) } else { target }, family)
    }

    /// Runs every row's client over TCP and UDP, and compares with the row's result for that variant.
    pub fn check(&self, way: Way, rows: &[Row]) -> Result<()> {
        self.check_via(&[Via::Tcp, Via::UdpConnected], way, rows)
    }

    /// Like [`Self::check`], with these sockets.
    pub fn check_via(&self, vias: &[Via], way: Way, rows: &[Row]) -> Result<()> {
        let mut wrong = Vec::new();
        for client in unique(rows.iter().map(|row| row.client)) {
            let agent = &self.world.topology.host(client)?.agent;
            let (mut probes, mut expected) = (Vec::new(), Vec::new());
            for row in rows.iter().filter(|row| row.client == client) {
                let (target, met) = row.in_way(way);
                for family in Family::BOTH {
                    for &via in vias {
                        let to = self.address(target, family)?;
                        probes.push(Probe { via, from: None, to: vec![to], tries: 1 });
                        expected.push((format!("{client} {via} {target:?} {to}"), met));
                    }
                }
            }
            for (tried, (what, met)) in agent.probe(probes)?.into_iter().zip(expected) {
                if !tried.iter().all(|tried| fits(met, tried)) {
                    wrong.push(format!("{way:?}: {what}: expected {met:?}, met {tried:?}"));
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// Like [`Self::check`], within the time that a change may take.
    pub fn soon(&self, way: Way, rows: &[Row]) -> Result<()> {
        self.within(CHANGE_LIMIT, way, rows)
    }

    pub fn within(&self, limit: Duration, way: Way, rows: &[Row]) -> Result<()> {
        wait::until_true(&format!("the rows hold, {way:?}"), limit, || self.check(way, rows).map(|()| true))
    }

    /// Waits until the daemon of node1 has a complaint that contains all these words.
    pub fn complains(&mut self, words: &[&str]) -> Result<()> {
        let daemon = self.world.daemon(1)?;
        wait::until_true(&format!("a complaint with {words:?}"), CHANGE_LIMIT, || {
            let complaints = daemon.complaints()?;
            let found =
                complaints.iter().map(ToString::to_string).any(|c| words.iter().all(|w| c.contains(w)));
            ensure!(found, "it complains of {complaints:?}");
            Ok(true)
        })
    }

    /// The role of an interface according to node1's daemon, and the reason.
    pub fn role(&mut self, interface: &str) -> Result<(String, String)> {
        let status = self.world.daemon(1)?.status()?;
        let all = status["interfaces"].as_array().context("a list of interfaces")?;
        let one = all.iter().find(|i| i["name"] == interface).with_context(|| format!("no {interface}"))?;
        let word = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        Ok((word("role"), word("reason")))
    }

    /// Fails unless node1's daemon gives the interface this role.
    pub fn has_role(&mut self, interface: &str, expected: &str) -> Result<&mut Self> {
        let (role, because) = self.role(interface)?;
        ensure!(role == expected, "{interface} is {role}: {because}");
        Ok(self)
    }
}

/// External addresses of the Services, whose network is behind node1 for the client.
fn external(n: u8) -> Addrs {
    Addrs { v4: [198, 18, 7, n].into(), v6: [0x2001, 0xdb8, 7, 0, 0, 0, 0, n.into()].into() }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn fits(met: ClientOutcome, tried: &Tried) -> bool {
    match (met, tried) {
        (ClientOutcome::Server(name), Tried::Answered(answer)) => answer.server == name,
        (ClientOutcome::Refusal, Tried::Refused) | (ClientOutcome::Silence, Tried::Nothing) => true,
        (ClientOutcome::Unreachable, Tried::Unreachable) => true,
        (ClientOutcome::NoAnswer, tried) => !matches!(tried, Tried::Answered(_)),
        _ => false,
    }
}
