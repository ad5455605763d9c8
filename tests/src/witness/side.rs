//! A network with one proxy on its nodes: the hosts of all cases, and what they meet there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::kube_proxy::KubeProxy;
use super::outcome::Outcome;
use super::plane::Plane;
use super::row::Row;
use super::service::Place;
use super::settings::Settings;
use crate::agent::{Agent, Probe, Via};
use crate::daemon::{Flags, Source};
use crate::manifests::SERVER_PORT;
use crate::topology::{Family, Node, Options, Topology};
use crate::wait;
use crate::world::World;

/// What the Services of a side are served by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proxy {
    KubeProxy,
    Svc,
}

impl Proxy {
    pub const ALL: [Self; 2] = [Self::KubeProxy, Self::Svc];

    fn name(self) -> &'static str {
        match self {
            Self::KubeProxy => "wit-kp",
            Self::Svc => "wit-svc",
        }
    }

    /// The hub is 172.30.0.1; a node of ours is 20 or 40 and its number.
    fn first_on_hub(self) -> u8 {
        match self {
            Self::KubeProxy => 20,
            Self::Svc => 40,
        }
    }
}

/// `pod` and `far` are clients, the others servers; those of `a` are on node1, those of `b` on node2.
const PODS: [(usize, &str); 7] =
    [(1, "pod"), (1, "a1"), (1, "a2"), (1, "a3"), (2, "far"), (2, "b1"), (2, "b2")];
/// A node's interface towards the hub.
const LINK: &str = "api0";
/// What a proxy has been told shows in the traffic within this time.
const SYNC_LIMIT: Duration = Duration::from_secs(60);
/// As many rows as an agent does well before whoever asked gives it up.
const BATCH: usize = 48;

pub struct Side {
    pub proxy: Proxy,
    // Before what they stand on.
    kube_proxies: Vec<KubeProxy>,
    world: World,
    pub places: BTreeMap<String, Place>,
    names: BTreeMap<IpAddr, String>,
}

impl Side {
    pub fn new(proxy: Proxy, plane: &Plane) -> Result<Self> {
        let mut world = World::new(proxy.name(), Options::default())?;
        for (node, pod) in PODS {
            world.topology.node_mut(node).add_pod(pod)?.host.agent.serve(SERVER_PORT)?;
        }
        for (node, number) in world.topology.nodes.iter().zip(1..) {
            node.host.agent.serve(SERVER_PORT)?;
            prepare(node, plane, proxy.first_on_hub() + number)?;
        }
        lead_client(&world.topology)?;
        let hosts = world.topology.nodes.iter().flat_map(|node| node.hosts().map(|host| (node.name(), host)));
        let hosts = hosts.chain([("", &world.topology.client)]);
        let places: BTreeMap<_, _> = hosts
            .map(|(node, host)| (host.name().to_owned(), Place { addrs: host.addrs, node: node.to_owned() }))
            .collect();
        let names = places
            .iter()
            .flat_map(|(name, place)| Family::BOTH.map(|family| (place.addrs.of(family), name.clone())))
            .collect();
        Ok(Self { proxy, kube_proxies: Vec::new(), world, places, names })
    }

    pub fn nodes(&self) -> &[Node] {
        &self.world.topology.nodes
    }

    /// Starts the proxy anew on both nodes.
    pub fn start(&mut self, plane: &Plane, settings: Settings) -> Result<()> {
        match self.proxy {
            Proxy::KubeProxy => {
                self.kube_proxies.clear();
                let dir = self.world.dir();
                for node in &self.world.topology.nodes {
                    let config = settings.of_kube_proxy(node.name(), &plane.kubeconfig());
                    self.kube_proxies.push(KubeProxy::start(&plane.kube_proxy()?, node, &dir, &config)?);
                }
            }
            Proxy::Svc => {
                self.world.end_daemons()?;
                for node in ["node1", "node2"] {
                    let source = Source::Kubernetes {
                        kubeconfig: plane.kubeconfig(),
                        node_name: node.to_owned(),
                        link: LINK.to_owned(),
                    };
                    self.world.start_next_with(source, Flags::default(), settings.of_svc())?;
                }
                (1..=2).try_for_each(|node| self.world.ready(node))?;
            }
        }
        Ok(())
    }

    /// Waits until a Service answers from everywhere: what the API server was told before it is in force then too.
    pub fn await_service(&mut self, at: &[SocketAddr]) -> Result<()> {
        for client in ["pod", "node1", "far", "node2"] {
            let agent = self.agent(client)?;
            for to in at {
                let what = format!("{client} is answered at {to} with {:?}", self.proxy);
                let kube_proxies = &mut self.kube_proxies;
                let answered = wait::until(&what, SYNC_LIMIT, || {
                    if let Err(ended) = kube_proxies.iter_mut().try_for_each(KubeProxy::check) {
                        return Ok(Some(Err(ended)));
                    }
                    agent.ask(Via::Tcp, *to, 1).map(|_| Some(Ok(())))
                });
                answered.with_context(|| self.diagnosis()).flatten()?;
            }
        }
        Ok(())
    }

    fn diagnosis(&self) -> String {
        let words = self.kube_proxies.iter().map(KubeProxy::last_words);
        words.chain([self.world.diagnosis()]).collect::<Vec<_>>().join("\n")
    }

    fn agent(&self, name: &str) -> Result<Arc<Agent>> {
        Ok(Arc::clone(&self.world.topology.host(name)?.agent))
    }

    /// What the client of each row meets, in the rows' order; clients at once, each one's rows some at once.
    pub fn meet(&self, plane: &Plane, rows: &[&Row]) -> Result<Vec<Outcome>> {
        let mut by_client: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (n, row) in rows.iter().enumerate() {
            by_client.entry(&row.client).or_default().push(n);
        }
        let ask = |client: &str, all: &[usize]| -> Result<Vec<(usize, Outcome)>> {
            let agent = self.agent(client)?;
            let mut outcomes = Vec::new();
            for batch in all.chunks(BATCH) {
                let rows: Vec<&Row> = batch.iter().filter_map(|n| rows.get(*n).copied()).collect();
                let probes = rows.iter().map(|row| self.probe(plane, row)).collect::<Result<Vec<_>>>()?;
                let met = agent.probe(probes)?;
                outcomes.extend(batch.iter().zip(rows).zip(met).map(|((n, row), tried)| {
                    let outcome = Outcome::of(&tried, &self.names);
                    (*n, if row.stays { outcome.staying() } else { outcome })
                }));
            }
            Ok(outcomes)
        };
        let mut all = thread::scope(|scope| {
            let threads: Vec<_> =
                by_client.iter().map(|(client, rows)| scope.spawn(|| ask(client, rows))).collect();
            let joined =
                threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?);
            joined.collect::<Result<Vec<_>>>()
        })?
        .concat();
        all.sort_by_key(|(n, _)| *n);
        Ok(all.into_iter().map(|(_, outcome)| outcome).collect())
    }

    fn probe(&self, plane: &Plane, row: &Row) -> Result<Probe> {
        let to = plane.addresses(row, &self.places).with_context(|| row.name.clone())?;
        Ok(Probe { via: row.via, from: None, to, tries: row.tries })
    }
}

/// Gives a node an interface to the hub, and a CNI that masquerades only what leaves the cluster, so that pods see each
/// other. No limit to ICMP errors: a client that is refused often should hear it every time.
fn prepare(node: &Node, plane: &Plane, number: u8) -> Result<()> {
    let netns = &node.host.netns;
    plane.hub().ip(&format!(
        "link add n{number} type veth peer name {LINK} netns {}\nlink set n{number} master br0 up",
        netns.name()
    ))?;
    netns.ip(&format!("addr add 172.30.0.{number}/24 dev {LINK}\nlink set {LINK} up"))?;
    netns.sysctl(&[("net/ipv4/icmp_ratemask", "0"), ("net/ipv6/icmp/ratelimit", "0")])?;
    let pods = node.pod_cidrs();
    netns.nft(&format!(
        "flush chain inet cni postrouting
         add rule inet cni postrouting ip saddr {}/24 ip daddr != 10.244.0.0/16 masquerade
         add rule inet cni postrouting ip6 saddr {}/64 ip6 daddr != fd00:10:244::/48 masquerade",
        pods.v4, pods.v6
    ))
}

/// The outside client takes node1 for the router of everything that is no host: ClusterIPs, external addresses, VIPs.
fn lead_client(topology: &Topology) -> Result<()> {
    let via = topology.node(1).host.addrs;
    topology.client.netns.ip(&format!(
        "route add 198.18.0.0/15 via {v4}\nroute add 2001:db8:12::/47 via {v6}\n\
         route add fd00:96::/112 via {v6}",
        v4 = via.v4,
        v6 = via.v6
    ))
}
