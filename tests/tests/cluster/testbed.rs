//! The cluster that all cases share: made by the first one, with servers, their Service, and client pods.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use svc_tests::cluster::args::{Cni, Dns, Proxy, Up};
use svc_tests::cluster::{Cluster, Places, Pod, Settings, Steps};
use svc_tests::command;

pub const NAMESPACE: &str = "default";
/// Label of the pods that the manifests make.
pub const ECHO: &str = "app=echo";
const CLIENT: &str = "app=client";
/// The daemon's process name, and the selector of its pods.
pub const DAEMON: &str = "svc-ctl";
pub const DAEMONS: &str = "app.kubernetes.io/name=svc";
pub const PORT: u16 = 8080;
pub const NODE_PORT: u16 = 30080;
pub const REPLICAS: usize = 2;

const MANIFESTS: &str = include_str!("echo.yaml");
/// Placeholder in the manifests for the image's name.
const IMAGE: &str = "svc.local/echo";

/// Strict, and without DNS, which no case needs.
const NODES: u8 = 2;

#[derive(Debug)]
pub struct Testbed {
    pub cluster: Cluster,
    pub places: Places,
    /// A pod on each node, in the nodes' order; none of them is a server.
    pub clients: Vec<Pod>,
    /// The Service's addresses of both families.
    pub cluster_ips: Vec<IpAddr>,
}

#[derive(Debug, Default)]
pub struct Fixtures(OnceLock<Result<Testbed, String>>);

/// A case on the shared cluster.
pub fn case(fixtures: &Arc<Fixtures>, sentence: &'static str, act: fn(&Testbed) -> Result<()>) -> Trial {
    let fixtures = Arc::clone(fixtures);
    Trial::test(sentence, move || {
        let testbed = fixtures.0.get_or_init(|| Testbed::make().map_err(|error| format!("{error:#}")));
        let testbed = testbed.as_ref().map_err(Failed::from)?;
        act(testbed).map_err(|error| format!("{error:#}\n{}", testbed.describe()).into())
    })
}

fn options() -> Up {
    Up {
        nodes: NODES,
        cni: Cni::Ptp,
        proxy: Proxy::Svc,
        dns: Dns::Coredns,
        lenient: false,
        zones: Vec::new(),
    }
}

fn settings() -> Result<Settings> {
    Settings::of_test("cluster")
}

pub fn preflight() -> Result<()> {
    svc_tests::cluster::preflight(&settings()?, &options())
}

impl Testbed {
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

    /// Diagnostic output for a failed case.
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

/// Addresses of both families, if the Service has both.
pub fn cluster_ips(places: &Places, service: &str) -> Result<Vec<IpAddr>> {
    let ask = ["-n", NAMESPACE, "get", "service", service, "-o", "json"];
    let service: Value = serde_json::from_str(&command::run(places.kubectl()?.args(ask))?)?;
    let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    ips.map(|ip| ip.as_str().unwrap_or_default().parse().with_context(|| format!("ClusterIP {ip}"))).collect()
}
