//! The cluster that all cases share: made by the first that needs it, with servers, their Service, and pods to ask from.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use svc_tests::cluster::args::{Cni, Proxy, Up};
use svc_tests::cluster::{Cluster, Places, Pod, Settings, Steps};
use svc_tests::command;

pub const NAMESPACE: &str = "default";
/// What the manifests make, and their pods are called by.
pub const ECHO: &str = "app=echo";
const CLIENT: &str = "app=client";
/// The daemon's process, and the selector of its pods.
pub const DAEMON: &str = "svc-ctl";
pub const DAEMONS: &str = "app.kubernetes.io/name=svc";
pub const PORT: u16 = 8080;
pub const NODE_PORT: u16 = 30080;
pub const REPLICAS: usize = 2;

const MANIFESTS: &str = include_str!("echo.yaml");
/// Stands in the manifests where the image's name goes.
const IMAGE: &str = "svc.local/echo";

/// Strict, without DNS, which none of the cases needs.
const NODES: u8 = 2;

#[derive(Debug)]
pub struct Stage {
    pub cluster: Cluster,
    pub places: Places,
    /// A pod on each node, in the nodes' order; none of them serves.
    pub clients: Vec<Pod>,
    /// The Service's, of both families.
    pub cluster_ips: Vec<IpAddr>,
}

#[derive(Debug, Default)]
pub struct Theatre(OnceLock<Result<Stage, String>>);

/// A case on the one cluster.
pub fn case(theatre: &Arc<Theatre>, sentence: &'static str, act: fn(&Stage) -> Result<()>) -> Trial {
    let theatre = Arc::clone(theatre);
    Trial::test(sentence, move || {
        let stage = theatre.0.get_or_init(|| Stage::make().map_err(|error| format!("{error:#}")));
        let stage = stage.as_ref().map_err(Failed::from)?;
        act(stage).map_err(|error| format!("{error:#}\n{}", stage.describe()).into())
    })
}

fn options() -> Up {
    Up { nodes: NODES, cni: Cni::Ptp, proxy: Proxy::Svc, lenient: false, zones: Vec::new() }
}

fn settings() -> Result<Settings> {
    Settings::of_test("cluster")
}

pub fn preflight() -> Result<()> {
    svc_tests::cluster::preflight(&settings()?, &options())
}

impl Stage {
    fn make() -> Result<Self> {
        let mut steps = Steps::new(true);
        let mut cluster = Cluster::up(&settings()?, &options(), &mut steps)?;
        let image = format!("{IMAGE}:{}", env!("CARGO_PKG_VERSION"));
        cluster.plane().apply(&MANIFESTS.replace(IMAGE, &image))?;
        let places = cluster.places();
        let mut clients = steps.run("servers and clients are ready", || {
            places.await_pods(NAMESPACE, ECHO, REPLICAS)?;
            places.await_pods(NAMESPACE, CLIENT, NODES.into())
        })?;
        clients.sort_by(|a, b| a.node.cmp(&b.node));
        let cluster_ips = cluster_ips(&places, "echo")?;
        Ok(Self { cluster, places, clients, cluster_ips })
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.places.kubectl()?.args(arguments))
    }

    /// What the cluster has to say when a case has failed.
    fn describe(&self) -> String {
        let asks: [&[&str]; 3] = [
            &["get", "pods,endpointslices", "-A", "-o", "wide"],
            &["get", "events", "-A", "--field-selector=type=Warning"],
            &["-n", "kube-system", "logs", "--all-pods", "--prefix", "--tail=15", "daemonset/svc"],
        ];
        let mut answers = asks.map(|ask| self.ask(ask)).join("\n");
        for pod in self.places.pods("kube-system", DAEMONS).unwrap_or_default() {
            answers += &self.ask(&["-n", "kube-system", "exec", &pod.name, "--", "/svc-ctl", "status"]);
        }
        answers
    }

    fn ask(&self, arguments: &[&str]) -> String {
        self.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"))
    }
}

/// Of both families, if the Service has both.
pub fn cluster_ips(places: &Places, service: &str) -> Result<Vec<IpAddr>> {
    let ask = ["-n", NAMESPACE, "get", "service", service, "-o", "json"];
    let service: Value = serde_json::from_str(&command::run(places.kubectl()?.args(ask))?)?;
    let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    ips.map(|ip| ip.as_str().unwrap_or_default().parse().with_context(|| format!("ClusterIP {ip}"))).collect()
}
