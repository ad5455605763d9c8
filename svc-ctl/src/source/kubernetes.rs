//! The Kubernetes API: lists and watches Services, EndpointSlices and our own Node, and publishes complaints about
//! them as Events. No failure ends it.

mod connect;
mod counted;
mod failure;
mod feed;
mod few;
mod load_balancer;
mod message;
mod metallb;
mod outbox;
mod own_node;
mod question;
mod read;
mod reflector;
mod resolve;
pub mod rights;
mod service_cidrs;

use std::path::PathBuf;

use ipnet::IpNet;
use kube::Client;
use tokio::sync::{mpsc, watch};

pub use self::connect::{SERVICE_ACCOUNT, connect};
use self::feed::Feed;
use self::question::Selection;
use self::reflector::Reflector;
use super::event::Batch;
use crate::lb::AddressGiver;
use crate::model::complaint::Origin;
use crate::observe::ledger::{Complaints, Ledger};
use crate::observe::metrics::requests::ApiRequests;

/// Excludes other proxies' Services on the server's side (SEM-003).
const SERVICE_LABELS: &str = "!service.kubernetes.io/service-proxy-name";
/// Excludes headless Services, on servers that know the field (1.31).
const SERVICE_FIELDS: &str = "spec.clusterIP!=None";
/// Excludes the slices of headless Services (SEM-004).
const SLICE_LABELS: &str = "!service.kubernetes.io/headless";
/// Objects per page, as in client-go.
const PAGE_SIZE: u32 = 500;

/// The access to the API server, and the objects to request.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--kubeconfig`; `None`: the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: overrides the address.
    pub master: Option<String>,
    /// Folder of a pod's credentials: [`SERVICE_ACCOUNT`].
    pub service_account: PathBuf,
    pub node_name: String,
    /// Also request Services and slices that only DNS reads.
    pub names: bool,
    /// Request lists as streams (servers from 1.32 on); falls back automatically.
    pub streaming_lists: bool,
    /// Objects per page of a list from etcd; lists from the server's cache have one page. Zero: 500.
    pub page_size: u32,
    /// Receiver of the ranges of ClusterIPs, if they are read.
    pub service_cidrs: Option<watch::Sender<Vec<IpNet>>>,
    /// Services get load-balancer addresses.
    pub load_balancer: Option<AddressGiver>,
    /// Ranges of ClusterIPs, if they are not read.
    pub known_service_cidrs: Vec<IpNet>,
    /// Counters of requests.
    pub requests: ApiRequests,
}

/// Lists and watches until the events' receiver is dropped, and publishes complaints as Events.
pub async fn run(
    client: Client,
    options: Options,
    events: mpsc::Sender<Batch>,
    complaints: watch::Receiver<Complaints>,
    ledger: Ledger,
) {
    let feed = Feed::new(events, ledger.clone(), Origin::Source);
    let all = Selection {
        is_streamed: options.streaming_lists,
        page_size: if options.page_size == 0 { PAGE_SIZE } else { options.page_size },
        ..Selection::default()
    };
    let services = Selection {
        labels: (!options.names).then(|| SERVICE_LABELS.to_owned()),
        fields: (!options.names).then(|| SERVICE_FIELDS.to_owned()),
        fields_are_optional: true,
        ..all.clone()
    };
    let slices = Selection { labels: (!options.names).then(|| SLICE_LABELS.to_owned()), ..all.clone() };
    let node = Selection { fields: Some(format!("metadata.name={}", options.node_name)), ..all };
    let follow = async {
        tokio::join!(
            Reflector::<read::Service>::new(&client, &feed, services).follow(),
            Reflector::<read::Slice>::new(&client, &feed, slices).follow(),
            Reflector::<read::Node>::new(&client, &feed, node).of_own_node(&options.node_name).follow(),
        );
    };
    let ranges = async {
        match options.service_cidrs.clone() {
            Some(publish) => service_cidrs::follow(&client, publish, &ledger).await,
            None => std::future::pending().await,
        }
    };
    let addresses = async {
        match options.load_balancer.clone() {
            Some(giver) => {
                let metallb = metallb::follow(&client, giver.file.clone(), &giver.metallb, &ledger);
                tokio::join!(metallb, load_balancer::run(&client, &options, giver.clone(), &ledger));
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = follow => {}
        () = addresses => {}
        () = ranges => {}
        () = outbox::run(client.clone(), &options.node_name, complaints) => {}
    }
}
