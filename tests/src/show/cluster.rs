//! The cluster of the show: a namespace for every Pod of the examples, made as a kubelet would, before it is Ready.

use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::daemon::Flags;
use crate::run_name;
use crate::topology::{Addrs, Options};
use crate::world::World;

const FILES: [&str; 3] = ["nodes.yaml", "web.yaml", "dns.yaml"];
/// The pod from which the clients inside the cluster ask; no manifest names it.
pub(super) const CLIENT_POD: &str = "client-pod";

/// The examples, alive.
pub(super) struct Cluster {
    world: World,
    /// The web Service's file as it is in force now.
    web: String,
}

impl Cluster {
    pub(super) fn new() -> Result<Self> {
        let mut world = World::new("show", Options::default())?;
        world.topology.node_mut(1).add_pod(CLIENT_POD)?;
        let mut web = String::new();
        for file in FILES {
            let path = run_name::workspace_dir().join("examples").join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            run_pods(&mut world, &text)?;
            world.folder.write(file, &text)?;
            if file == "web.yaml" {
                web = text;
            }
        }
        world.start(Flags::default())?;
        Ok(Self { world, web })
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    pub(super) fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// A fourth web Pod beside the third: first it runs, then the manifest says so.
    pub(super) fn add_replica(&mut self) -> Result<()> {
        let third = documents(&self.web).find(|document| document.contains("name: web-3"));
        let third = third.context("web.yaml has no Pod web-3")?;
        let fourth = third.replace("web-3", "web-4").replace(".23", ".24").replace("::23", "::24");
        run_pods(&mut self.world, &fourth)?;
        self.rewrite(format!("{}---\n{fourth}", self.web))
    }

    /// Takes the first web Pod out of the manifest; it goes on running, as Pods do while they end.
    pub(super) fn take_replica_out(&mut self) -> Result<()> {
        let rest: Vec<&str> =
            documents(&self.web).filter(|document| !document.contains("name: web-1")).collect();
        self.rewrite(rest.join("---\n"))
    }

    fn rewrite(&mut self, text: String) -> Result<()> {
        self.web = text;
        self.world.folder.write("web.yaml", &self.web)
    }
}

fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("---\n")
}

/// What the show needs to know of a Pod.
struct Pod {
    name: String,
    node: usize,
    addrs: Addrs,
    port: u16,
}

/// A namespace with a server in it for every Pod of a file.
fn run_pods(world: &mut World, text: &str) -> Result<()> {
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let object = Value::deserialize(document)?;
        if object["kind"] == "Pod" {
            let pod = Pod::read(&object).context("a Pod of the examples")?;
            let made = world.topology.node_mut(pod.node).add_pod_at(&pod.name, pod.addrs)?;
            made.host.agent.serve(pod.port)?;
        }
    }
    Ok(())
}

impl Pod {
    fn read(object: &Value) -> Option<Self> {
        let mut addrs =
            object["status"]["podIPs"].as_sequence()?.iter().filter_map(|ip| ip["ip"].as_str()?.parse().ok());
        let (Some(IpAddr::V4(v4)), Some(IpAddr::V6(v6))) = (addrs.next(), addrs.next()) else { return None };
        Some(Self {
            name: object["metadata"]["name"].as_str()?.into(),
            node: object["spec"]["nodeName"].as_str()?.strip_prefix("node")?.parse().ok()?,
            addrs: Addrs { v4, v6 },
            port: u16::try_from(object["spec"]["containers"][0]["ports"][0]["containerPort"].as_u64()?)
                .ok()?,
        })
    }
}
