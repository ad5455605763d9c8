//! The examples in a simulated network of two nodes: a namespace for every Pod, made before it is Ready as a kubelet
//! does. Manifests are changed.

mod by_hand;
mod pod;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Client, Environment, Step};
use crate::agent::Via;
use crate::daemon::Flags;
use crate::run_name;
use crate::show::interrupt;
use crate::show::screen::Screen;
use crate::topology::Options;
use crate::world::World;
use pod::Pod;

const FILES: [&str; 3] = ["nodes.yaml", "web.yaml", "dns.yaml"];
/// The pod with the clients inside the cluster; no manifest names it.
const CLIENT_POD: &str = "client-pod";

/// HTTP and UDP, ClusterIP and NodePort, both families, from every kind of client.
const CLIENTS: [(&str, Via, &str); 7] = [
    (CLIENT_POD, Via::Http, "10.96.0.10:80"),
    (CLIENT_POD, Via::Http, "[fd00:10:96::10]:80"),
    ("node1", Via::Http, "10.96.0.10:80"),
    ("client", Via::Http, "192.0.2.1:30080"),
    ("client", Via::Http, "[2001:db8:1::2]:30080"),
    (CLIENT_POD, Via::UdpConnected, "10.96.0.53:53"),
    ("client", Via::UdpUnconnected, "192.0.2.1:30053"),
];

/// The running examples.
pub(in crate::show) struct Examples {
    world: World,
    /// The current file of the web Service.
    web: String,
    /// The Pods in manifests.
    servers: BTreeSet<String>,
}

impl Environment for Examples {
    const STEPS: &'static [Step<Self>] = &[
        Step { name: "three replicas", begin: |_, _| Ok(()) },
        Step { name: "a replica is added", begin: |environment, _| environment.add_replica() },
        Step { name: "a replica is removed", begin: |environment, _| environment.take_replica_out() },
    ];
    const CHANGE_LIMIT: Duration = Duration::from_secs(10);
    const NAME_WIDTH: usize = 8;

    fn make(screen: &Screen) -> Result<Self> {
        interrupt::catch()?;
        screen.say("making two nodes, a client and the pods of examples/*.yaml");
        let mut world = World::new("show", Options::default())?;
        world.topology.node_mut(1).add_pod(CLIENT_POD)?;
        let mut environment = Self { world, web: String::new(), servers: BTreeSet::new() };
        for file in FILES {
            let path = run_name::workspace_dir().join("examples").join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            environment.run_pods(&text)?;
            environment.world.folder.write(file, &text)?;
            if file == "web.yaml" {
                environment.web = text;
            }
        }
        environment.world.start(Flags::default())?;
        Ok(environment)
    }

    fn clients(&self) -> Result<Vec<Client>> {
        let client = |(host, via, to): (&str, Via, &str)| {
            let agent = Arc::clone(&self.world.topology.host(host)?.agent);
            Ok(Client { agent, via, to: to.parse().with_context(|| format!("{to} is no address"))? })
        };
        CLIENTS.into_iter().map(client).collect()
    }

    fn wrong(&mut self, answered: &BTreeSet<&str>) -> Result<Option<String>> {
        let should: BTreeSet<&str> = self.servers.iter().map(String::as_str).collect();
        Ok((*answered != should).then(|| format!("{answered:?} answer, not {should:?}")))
    }

    fn diagnosis(&self) -> String {
        self.world.diagnosis()
    }

    fn by_hand(&mut self) -> Result<String> {
        by_hand::lines(&mut self.world)
    }
}

impl Examples {
    /// Adds a fourth web Pod: first it runs, then the manifest has it.
    fn add_replica(&mut self) -> Result<()> {
        let third = documents(&self.web).find(|document| document.contains("name: web-3"));
        let third = third.context("web.yaml has no Pod web-3")?;
        let fourth = third.replace("web-3", "web-4").replace(".23", ".24").replace("::23", "::24");
        self.run_pods(&fourth)?;
        self.rewrite(format!("{}---\n{fourth}", self.web))
    }

    /// Takes the first web Pod out of the manifest. It goes on running, as terminating Pods do.
    fn take_replica_out(&mut self) -> Result<()> {
        let rest: Vec<&str> =
            documents(&self.web).filter(|document| !document.contains("name: web-1")).collect();
        self.servers.remove("web-1");
        self.rewrite(rest.join("---\n"))
    }

    fn rewrite(&mut self, text: String) -> Result<()> {
        self.web = text;
        self.world.folder.write("web.yaml", &self.web)
    }

    /// Runs a server in a namespace of its own for every Pod of a file.
    fn run_pods(&mut self, text: &str) -> Result<()> {
        for Pod { name, node, addrs, port } in pod::read_all(text)? {
            let made = self.world.topology.node_mut(node).add_pod_at(&name, addrs)?;
            made.host.agent.serve(port)?;
            self.servers.insert(name);
        }
        Ok(())
    }
}

fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("---\n")
}
