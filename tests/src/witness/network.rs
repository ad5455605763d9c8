//! A network with one proxy on its nodes: the hosts of all cases, and their clients' results.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::api_server::ApiServer;
use super::hosts;
use super::kube_proxy::KubeProxy;
use super::outcome::RowOutcome;
use super::row::Row;
use super::service::Place;
use super::settings::Settings;
use crate::agent::{Agent, Probe, Via};
use crate::daemon::{Flags, Source};
use crate::topology::{Family, Node, Options};
use crate::wait;
use crate::world::World;

/// Proxy of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datapath {
    KubeProxy,
    /// With flags to behave like kube-proxy.
    Svc,
    /// With its default flags.
    SvcByDefault,
}

impl Datapath {
    pub const ALL: [Self; 3] = [Self::KubeProxy, Self::Svc, Self::SvcByDefault];

    /// Whether a row has an expectation for it.
    pub fn plays(self, row: &Row) -> bool {
        self != Self::SvcByDefault || row.by_default.is_some()
    }

    fn name(self) -> &'static str {
        match self {
            Self::KubeProxy => "wit-kp",
            Self::Svc => "wit-svc",
            Self::SvcByDefault => "wit-def",
        }
    }

    /// The hub is 172.30.0.1; the nodes of the first network are 21 and 22, and so on.
    fn first_on_hub(self) -> u8 {
        match self {
            Self::KubeProxy => 21,
            Self::Svc => 41,
            Self::SvcByDefault => 61,
        }
    }
}

/// A change of the objects shows in the traffic within this time.
const SYNC_LIMIT: Duration = Duration::from_secs(60);
/// Number of rows that an agent can process within the time limit of a command.
const BATCH: usize = 48;

pub struct ProxyNetwork {
    pub datapath: Datapath,
    // Dropped before their network.
    kube_proxies: Vec<KubeProxy>,
    _lb: Agent,
    world: World,
    pub places: BTreeMap<String, Place>,
    names: BTreeMap<IpAddr, String>,
}

impl ProxyNetwork {
    pub fn new(datapath: Datapath, api_server: &ApiServer) -> Result<Self> {
        let mut world = World::new(datapath.name(), Options::default())?;
        for (node, pod) in hosts::PODS {
            world.topology.node_mut(node).add_pod(pod)?;
        }
        let lb = hosts::prepare(&world.topology, api_server.hub(), datapath.first_on_hub())?;
        let places = hosts::places(&world.topology);
        let names = places
            .iter()
            .flat_map(|(name, place)| Family::BOTH.map(|family| (place.addrs.of(family), name.clone())))
            .collect();
        Ok(Self { datapath, kube_proxies: Vec::new(), _lb: lb, world, places, names })
    }

    pub fn nodes(&self) -> &[Node] {
        &self.world.topology.nodes
    }

    /// Restarts the proxy on both nodes.
    pub fn start(&mut self, api_server: &ApiServer, settings: Settings) -> Result<()> {
        match self.datapath {
            Datapath::KubeProxy => {
                self.kube_proxies.clear();
                let dir = self.world.dir();
                for node in &self.world.topology.nodes {
                    let config = settings.of_kube_proxy(node.name(), &api_server.kubeconfig());
                    self.kube_proxies.push(KubeProxy::start(&api_server.kube_proxy()?, node, &dir, &config)?);
                }
            }
            Datapath::Svc | Datapath::SvcByDefault => {
                self.world.end_daemons()?;
                let more = match self.datapath {
                    Datapath::SvcByDefault => settings.of_svc_by_default(),
                    Datapath::Svc | Datapath::KubeProxy => settings.of_svc(),
                };
                for node in ["node1", "node2"] {
                    let source = Source::Kubernetes {
                        kubeconfig: api_server.kubeconfig(),
                        node_name: node.to_owned(),
                        link: hosts::LINK.to_owned(),
                    };
                    self.world.start_next_with(source, Flags::default(), more.clone())?;
                }
                (1..=2).try_for_each(|node| self.world.ready(node))?;
            }
        }
        Ok(())
    }

    /// Waits until a Service answers everywhere: all earlier objects are in force then, too.
    pub fn await_service(&mut self, at: &[SocketAddr]) -> Result<()> {
        for client in ["pod", "node1", "far", "node2"] {
            let agent = self.agent(client)?;
            for to in at {
                let what = format!("{client} is answered at {to} with {:?}", self.datapath);
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
        let host = if name == hosts::OTHER_CLIENT { "client" } else { name };
        Ok(Arc::clone(&self.world.topology.host(host)?.agent))
    }

    /// The results of each row's client, in the rows' order. Clients run concurrently, each with some rows at once.
    pub fn meet(&self, api_server: &ApiServer, rows: &[&Row]) -> Result<Vec<RowOutcome>> {
        let mut by_client: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (n, row) in rows.iter().enumerate() {
            by_client.entry(&row.client).or_default().push(n);
        }
        let ask = |client: &str, all: &[usize]| -> Result<Vec<(usize, RowOutcome)>> {
            let agent = self.agent(client)?;
            let mut outcomes = Vec::new();
            for batch in all.chunks(BATCH) {
                let rows: Vec<&Row> = batch.iter().filter_map(|n| rows.get(*n).copied()).collect();
                let probes =
                    rows.iter().map(|row| self.probe(api_server, row)).collect::<Result<Vec<_>>>()?;
                let met = agent.probe_from_fresh_ports(probes)?;
                outcomes.extend(batch.iter().zip(rows).zip(met).map(|((n, row), tried)| {
                    let outcome = RowOutcome::of(&tried, &self.names);
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

    fn probe(&self, api_server: &ApiServer, row: &Row) -> Result<Probe> {
        let to = api_server.addresses(row, &self.places).with_context(|| row.name.clone())?;
        let is_other_client = row.client == hosts::OTHER_CLIENT;
        let from = is_other_client.then(|| hosts::OTHER_CLIENT_ADDRS.of(row.family));
        Ok(Probe { via: row.via, from, to, tries: row.tries })
    }
}
