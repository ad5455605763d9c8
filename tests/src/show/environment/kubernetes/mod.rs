//! The show on a real cluster: a Deployment behind two Services, changed by kubectl.

mod by_hand;
mod exposed;
mod kubectl;
mod show_cluster;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Client, Environment, Step, Target};
use crate::agent::{Agent, Via};
use crate::cluster::addresses::node;
use crate::show::interrupt;
use crate::show::screen::Screen;
use crate::topology::Family;
use crate::wait;
use exposed::Exposed;
use kubectl::{Kubectl, NAMESPACE};
use show_cluster::ShowCluster;

const IMAGE: &str = concat!("svc.local/echo:", env!("CARGO_PKG_VERSION"));
/// The same image under another name: a Deployment that changes to it replaces all its pods.
const NEXT_IMAGE: &str = "svc.local/echo:next";
const SERVE: &str = "/svc-echo serve --tcp=8080 --udp=8080";
/// A pod gets requests only after it listens, and until every node knows that it is terminating.
const CAREFUL: &str = concat!(
    r#"{"spec":{"template":{"spec":{"containers":[{"name":"echo","#,
    r#""readinessProbe":{"tcpSocket":{"port":8080},"periodSeconds":1},"#,
    r#""lifecycle":{"preStop":{"sleep":{"seconds":5}}}}]}}}}"#,
);
const EXPOSE: &str = concat!(
    "--port=80 --target-port=8080 --type=NodePort ",
    r#"--overrides={"apiVersion":"v1","spec":{"ipFamilyPolicy":"RequireDualStack"}}"#,
);

/// Maximum time until a new Service is served everywhere.
const SERVED_LIMIT: Duration = Duration::from_secs(30);

/// A Deployment `web`, its Services, and clients that know them.
pub(in crate::show) struct Kubernetes {
    // Dropped in this order: agents in the cluster before the cluster.
    outside: Arc<Agent>,
    on_node: Arc<Agent>,
    in_pod: Arc<Agent>,
    tcp: Exposed,
    udp: Exposed,
    replicas: usize,
    /// Pods that must not answer any more.
    gone: BTreeSet<String>,
    kubectl: Kubectl,
    show_cluster: ShowCluster,
}

impl Environment for Kubernetes {
    const STEPS: &'static [Step<Self>] = &[
        Step { name: "three replicas", begin: |_, _| Ok(()), has_losses: false },
        Step {
            name: "scaled to five",
            begin: |environment, screen| environment.scale(5, screen),
            has_losses: false,
        },
        Step { name: "another image, so other pods", begin: Self::set_image, has_losses: false },
        Step { name: "a pod loses its label", begin: Self::take_label, has_losses: false },
        Step { name: "a pod is deleted", begin: Self::delete_pod, has_losses: false },
        Step {
            name: "scaled to one",
            begin: |environment, screen| environment.scale(1, screen),
            has_losses: false,
        },
    ];
    /// Pods are started and ended in this time.
    const CHANGE_LIMIT: Duration = Duration::from_secs(90);
    const NAME_WIDTH: usize = 21;

    fn make(screen: &Screen) -> Result<Self> {
        // Until the cluster is up, Ctrl-C ends the program at once, and leftovers are swept.
        let show_cluster = ShowCluster::find(screen)?;
        interrupt::catch()?;
        let kubectl = Kubectl::new(show_cluster.places());
        let replicas = 3;
        kubectl.type_in(screen, &format!("create namespace {NAMESPACE}"))?;
        for line in [
            format!("create deployment web --image={IMAGE} --replicas=0 -- {SERVE}"),
            format!("patch deployment web --patch={CAREFUL}"),
            format!("scale deployment web --replicas={replicas}"),
            format!("expose deployment web {EXPOSE}"),
            format!("expose deployment web --name=web-udp --protocol=UDP {EXPOSE}"),
            format!("run client --image={IMAGE} -- pause"),
        ] {
            kubectl.type_in(screen, &line)?;
        }
        show_cluster.places().await_pods(NAMESPACE, "app=web", replicas)?;
        let pods = show_cluster.places().await_pods(NAMESPACE, "run=client", 1)?;
        let environment = Self {
            outside: Arc::new(show_cluster.places().outside()?),
            on_node: Arc::new(show_cluster.places().on_node("n1")?),
            in_pod: Arc::new(show_cluster.places().in_pod(pods.first().context("no pod client")?)?),
            tcp: kubectl.exposed("web")?,
            udp: kubectl.exposed("web-udp")?,
            replicas,
            gone: BTreeSet::new(),
            kubectl,
            show_cluster,
        };
        environment.clients()?.iter().try_for_each(await_answer)?;
        Ok(environment)
    }

    fn clients(&self) -> Result<Vec<Client>> {
        let (first, last) = (node(1), node(self.show_cluster.nodes().min(2)));
        let [http, unconnected] = [Via::Http, Via::UdpUnconnected];
        let clients = [
            (&self.in_pod, http, self.tcp.inside(Family::V4)),
            (&self.in_pod, http, self.tcp.inside(Family::V6)),
            (&self.on_node, http, self.tcp.inside(Family::V4)),
            (&self.outside, http, self.tcp.at(first.of(Family::V4))),
            (&self.outside, http, self.tcp.at(last.of(Family::V6))),
            (&self.in_pod, Via::UdpConnected, self.udp.inside(Family::V4)),
            (&self.outside, unconnected, self.udp.at(first.of(Family::V4))),
        ];
        Ok(clients
            .map(|(agent, via, to)| Client { agent: Arc::clone(agent), via, to: Target::Address(to) })
            .into())
    }

    fn wrong(&mut self, answered: &BTreeSet<&str>) -> Result<Option<String>> {
        // Comparing the numbers often suffices, and needs no process.
        if answered.len() != self.replicas {
            return Ok(Some(format!("{answered:?} answer, not {} pods", self.replicas)));
        }
        let ready = self.kubectl.ready()?;
        let is_right = |pod: &&str| ready.contains(*pod) && !self.gone.contains(*pod);
        let wrong = || format!("{answered:?} answer, not {ready:?} without {:?}", self.gone);
        Ok((!answered.iter().all(is_right)).then(wrong))
    }

    fn metrics_page(&self) -> Result<String> {
        bail!("metrics are plotted of the simulated network only")
    }

    fn diagnosis(&self) -> String {
        self.kubectl.diagnosis()
    }

    fn by_hand(&mut self) -> Result<String> {
        by_hand::lines(self)
    }
}

impl Kubernetes {
    fn scale(&mut self, replicas: usize, screen: &Screen) -> Result<()> {
        self.replicas = replicas;
        self.kubectl.type_in(screen, &format!("scale deployment web --replicas={replicas}"))
    }

    fn set_image(&mut self, screen: &Screen) -> Result<()> {
        self.gone.extend(self.kubectl.ready()?);
        self.kubectl.type_in(screen, &format!("set image deployment/web echo={NEXT_IMAGE}"))
    }

    fn take_label(&mut self, screen: &Screen) -> Result<()> {
        let pod = self.lose_one()?;
        self.kubectl.type_in(screen, &format!("label pod {pod} app-"))
    }

    fn delete_pod(&mut self, screen: &Screen) -> Result<()> {
        let pod = self.lose_one()?;
        self.kubectl.type_in(screen, &format!("delete pod {pod} --wait=false"))
    }

    /// Removes one of the answering pods.
    fn lose_one(&mut self) -> Result<String> {
        let pod = self.kubectl.ready()?.pop_first().context("no pod is ready")?;
        self.gone.insert(pod.clone());
        Ok(pod)
    }
}

fn await_answer(client: &Client) -> Result<()> {
    let Client { agent, via, to: Target::Address(to) } = client else { return Ok(()) };
    let what = format!("{} is answered by {to} ({via})", agent.name());
    wait::until(&what, SERVED_LIMIT, || agent.ask(*via, *to, 1).map(Some)).map(drop)
}
