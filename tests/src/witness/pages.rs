//! kube-proxy and svc on one cluster, each on nodes of its own, and their answers to HTTP requests.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::api_server::ApiServer;
use super::network::{Datapath, ProxyNetwork};
use super::service::Service;
use super::settings::Settings;
use crate::command;
use crate::http::{self, Response};
use crate::topology::Family;

/// Annotation of a slice: when the change began that led to it.
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

const PROXIES: [Datapath; 2] = [Datapath::KubeProxy, Datapath::Svc];

/// A request to a proxy, from its own node.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub port: u16,
    pub path: &'static str,
    pub accept: Option<&'static str>,
}

/// The answers to one request.
#[derive(Clone, Debug)]
pub struct Answers {
    pub kube_proxy: Response,
    pub svc: Response,
}

/// Both proxies, while they run.
pub struct Pages {
    // Dropped before the API server.
    networks: Vec<ProxyNetwork>,
    api_server: ApiServer,
}

impl Pages {
    /// Starts both, and waits until a Service is in force on all nodes.
    pub fn start() -> Result<Self> {
        let mut api_server = ApiServer::start()?;
        let networks = PROXIES.map(|datapath| ProxyNetwork::new(datapath, &api_server));
        let mut networks = networks.into_iter().collect::<Result<Vec<_>>>()?;
        let first = networks.first().context("no network")?;
        api_server.introduce(first.nodes())?;
        let places = first.places.clone();
        api_server.set(&[("marker".to_owned(), Some(Service::marker("a1")))], &places)?;
        let at = Family::BOTH.map(|family| api_server.cluster_ip("marker", family).map(|ip| (ip, 80).into()));
        let at = at.into_iter().collect::<Result<Vec<_>>>()?;
        for network in &mut networks {
            network.start(&api_server, Settings::default())?;
            network.await_service(&at)?;
        }
        Ok(Self { networks, api_server })
    }

    /// Removes the endpoints of every slice, and writes the time of that change into the slice, as the controller does.
    pub fn remove_endpoints(&self) -> Result<()> {
        let now = command::run(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?;
        let patch = json!({
            "metadata": {"annotations": {TRIGGERED: now.trim()}},
            "endpoints": [],
        });
        let patch = patch.to_string();
        let slices = self.api_server.kubectl(&["get", "endpointslices", "-o", "name"])?;
        for slice in slices.lines() {
            self.api_server.kubectl(&["patch", slice, "--type=merge", "--patch", &patch])?;
        }
        Ok(())
    }

    pub fn ask(&self, request: Request) -> Result<Answers> {
        let [kube_proxy, svc] = PROXIES.map(|datapath| {
            let network =
                self.networks.iter().find(|network| network.datapath == datapath).context("no network")?;
            let node = network.nodes().first().context("no node")?;
            let to = SocketAddr::from(([127, 0, 0, 1], request.port));
            let answer = node.host.netns.within(|| http::get_accepting(to, request.path, request.accept));
            answer.with_context(|| format!("{datapath:?}: {request:?}"))
        });
        Ok(Answers { kube_proxy: kube_proxy?, svc: svc? })
    }
}
