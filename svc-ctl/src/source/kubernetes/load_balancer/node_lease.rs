//! The Leases of nodes: this node's own is renewed, and all are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::Resource as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::super::failure::{Failure, Pauses};
use super::{MANAGER, Presence, answer, complain, time};
use crate::lb::Members;
use crate::lb::claim::{Mac, mac_text};
use crate::lb::clock::now;
use crate::lb::pulse::{Beat, DURATION, PERIOD, Pulse};
use crate::model::complaint::Origin;
use crate::model::parse::parse_ip;
use crate::observe::ledger::Ledger;

/// Label of the Leases, and its value.
const LABEL: (&str, &str) = ("svc/lease", "node");
const ADDRESSES: &str = "svc/addresses";
const MACS: &str = "svc/link-layer-addresses";
const EXCLUDED: &str = "svc/excluded";
const REFUSES: &str = "svc/refused-pools";
/// Addresses of each kind that are read of one Lease.
const MOST: usize = 256;
/// This node's own renewals come by the watch each second. One that shows nothing for this long is given up.
const SILENT_WATCH: Duration = Duration::from_secs(5);

/// A renewal does not wait longer for the Node, so that the Lease does not run out meanwhile.
const LOOK_UP_WITHIN: Duration = Duration::from_millis(500);

/// The Node that owns this node's Lease: the Lease is collected with it.
#[derive(Default)]
struct Owner {
    reference: Option<OwnerReference>,
    /// The Lease for which the Node was looked up. A new Lease may have another Node.
    lease: Option<String>,
}

impl Owner {
    /// Looks up the Node if the Lease has changed.
    async fn follow(&mut self, nodes: &Api<Node>, node: &str, lease: &Lease) -> Result<(), Failure> {
        if self.lease.is_some() && self.lease == lease.metadata.uid {
            return Ok(());
        }
        let own = ListParams::default().fields(&format!("metadata.name={node}"));
        let found = timeout(LOOK_UP_WITHIN, answer(nodes.list(&own))).await;
        let found = found.unwrap_or_else(|_| Err(Failure::of_text("no answer about the Node".to_owned())))?;
        self.reference = found.items.first().and_then(reference);
        // If there is no Node, the next renewal looks it up again.
        self.lease = self.reference.as_ref().and(lease.metadata.uid.clone());
        Ok(())
    }
}

fn reference(node: &Node) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: Node::API_VERSION.to_owned(),
        kind: Node::KIND.to_owned(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}

/// Renews this node's Lease for ever.
pub async fn renew(
    client: &Client,
    leases: &Api<Lease>,
    node: &str,
    mut presence: watch::Receiver<Option<Presence>>,
    ledger: &Ledger,
) {
    let nodes = Api::<Node>::all(client.clone());
    let mut owner = Owner::default();
    let mut ticks = interval(Duration::from_millis(PERIOD));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // A lost link is known at once.
            Ok(()) = presence.changed() => {}
        }
        let Some(presence) = presence.borrow_and_update().clone() else { continue };
        let lease = lease(node, &presence, owner.reference.as_ref());
        let params = PatchParams::apply(MANAGER).force();
        let renewed = answer(leases.patch(&name(node), &params, &Patch::Apply(&lease))).await;
        let failure = match renewed {
            Ok(lease) => owner.follow(&nodes, node, &lease).await.err(),
            Err(failure) => Some(failure),
        };
        complain(ledger, Origin::NodeLease, "the Lease of this node", failure.as_ref());
    }
}

/// Publishes all nodes for ever.
pub async fn follow(leases: &Api<Lease>, node: &str, members: &watch::Sender<Members>, ledger: &Ledger) {
    let (mut pulse, mut pauses) = (Pulse::new(node.to_owned()), Pauses::default());
    loop {
        let pause = match turn(leases, members, &mut pulse, ledger).await {
            Ok(()) => {
                pauses.reset();
                Duration::from_millis(PERIOD)
            }
            Err(failure) => {
                complain(ledger, Origin::NodeLeases, "the Leases of nodes", Some(&failure));
                pauses.after(&failure, false).min(Duration::from_millis(DURATION))
            }
        };
        sleep(pause).await;
    }
}

/// Lists the Leases and follows them until the watch ends or is silent.
async fn turn(
    leases: &Api<Lease>,
    members: &watch::Sender<Members>,
    pulse: &mut Pulse,
    ledger: &Ledger,
) -> Result<(), Failure> {
    let selector = format!("{}={}", LABEL.0, LABEL.1);
    let list = answer(leases.list(&ListParams::default().labels(&selector))).await?;
    let beats: Vec<Beat> = list.items.iter().filter_map(beat).collect();
    pulse.retain(&beats.iter().map(|beat| beat.node.clone()).collect::<BTreeSet<_>>());
    for beat in beats {
        pulse.beat(beat, now());
    }
    publish(members, pulse);
    let version = list.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().labels(&selector);
    let mut changes = pin!(answer(leases.watch(&params, &version)).await?);
    complain(ledger, Origin::NodeLeases, "the Leases of nodes", None);
    while let Ok(Some(change)) = timeout(SILENT_WATCH, changes.next()).await {
        match change.map_err(|error| Failure::of(&error))? {
            WatchEvent::Added(lease) | WatchEvent::Modified(lease) => {
                if let Some(beat) = beat(&lease) {
                    pulse.beat(beat, now());
                }
            }
            WatchEvent::Deleted(lease) => {
                if let Some(beat) = beat(&lease) {
                    pulse.remove(&beat.node);
                }
            }
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => return Err(Failure::of_status(&status)),
        }
        publish(members, pulse);
    }
    Ok(())
}

fn publish(members: &watch::Sender<Members>, pulse: &Pulse) {
    let Some(now) = pulse.members() else { return };
    members.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
}

fn name(node: &str) -> String {
    format!("svc-node-{node}")
}

fn lease(node: &str, presence: &Presence, owner: Option<&OwnerReference>) -> Lease {
    let list = |texts: Vec<String>| texts.join(",");
    let annotations = [
        (ADDRESSES, list(presence.addresses.iter().map(ToString::to_string).collect())),
        (MACS, list(presence.macs.iter().copied().map(mac_text).collect())),
        (EXCLUDED, presence.is_excluded.to_string()),
        (REFUSES, list(presence.refuses.iter().cloned().collect())),
    ];
    let metadata = ObjectMeta {
        name: Some(name(node)),
        labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
        annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
        owner_references: owner.map(|owner| vec![owner.clone()]),
        ..ObjectMeta::default()
    };
    let spec = LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION / 1_000).ok(),
        renew_time: Some(time()),
        ..LeaseSpec::default()
    };
    Lease { metadata, spec: Some(spec) }
}

/// A Lease counts only for the node with its name. An unreadable part counts as missing.
fn beat(lease: &Lease) -> Option<Beat> {
    let spec = lease.spec.as_ref()?;
    let node = spec.holder_identity.clone()?;
    if lease.metadata.name.as_deref() != Some(name(&node).as_str()) {
        return None;
    }
    let annotation = |key: &str| {
        let annotations = lease.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(key)).map_or("", String::as_str)
    };
    let presence = Presence {
        addresses: annotation(ADDRESSES)
            .split(',')
            .filter_map(|text| parse_ip(text).ok())
            .take(MOST)
            .collect(),
        macs: annotation(MACS).split(',').filter_map(parse_mac).take(MOST).collect(),
        is_excluded: annotation(EXCLUDED) == "true",
        refuses: annotation(REFUSES)
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .take(MOST)
            .collect(),
    };
    let renewed = spec.renew_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    Some(Beat { node, renewed, presence })
}

/// A link-layer address of one host.
fn parse_mac(text: &str) -> Option<Mac> {
    let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let mac: Mac = octets?.try_into().ok()?;
    let is_group = mac[0] & 1 == 1;
    (!is_group && mac != [0; 6]).then_some(mac)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::body::Body;

    use super::*;

    #[test]
    fn a_lease_has_its_nodes_addresses_and_unreadable_parts_are_left_out() {
        let presence = Presence {
            addresses: ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).into(),
            macs: [[2, 0, 0, 0, 0, 0xaf]].into(),
            is_excluded: true,
            refuses: ["back", "front"].map(str::to_owned).into(),
        };
        let mut lease = lease("node1", &presence, None);
        let read = beat(&lease).unwrap();
        assert_eq!((read.node.as_str(), &read.presence), ("node1", &presence));
        let annotations = lease.metadata.annotations.as_mut().unwrap();
        annotations.insert(ADDRESSES.to_owned(), "web,192.0.2.2".to_owned());
        let wrong = "02:00,zz,02:00:00:00:00:00:00,ff:ff:ff:ff:ff:ff,01:00:5e:00:00:01,00:00:00:00:00:00";
        annotations.insert(MACS.to_owned(), wrong.to_owned());
        let read = beat(&lease).unwrap().presence;
        assert_eq!((read.addresses.len(), read.macs.len()), (1, 0));
    }

    #[test]
    fn a_lease_speaks_for_no_other_node_and_not_for_ever_many_addresses() {
        let many: Vec<String> = (0..600).map(|n| format!("10.0.{}.{}", n / 256, n % 256)).collect();
        let mut lease = lease("node1", &Presence::default(), None);
        lease.metadata.annotations.as_mut().unwrap().insert(ADDRESSES.to_owned(), many.join(","));
        assert_eq!(beat(&lease).unwrap().presence.addresses.len(), MOST);
        for (object, holder) in [("svc-node-node1", "node2"), ("svc-allocator", "node1"), ("node1", "node1")]
        {
            lease.metadata.name = Some(object.to_owned());
            lease.spec.as_mut().unwrap().holder_identity = Some(holder.to_owned());
            assert!(beat(&lease).is_none(), "{object} of {holder}");
        }
    }

    /// An API server with one Node of this uid. Counts the lists.
    fn server_with_node(uid: &'static str) -> (Api<Node>, Arc<AtomicU32>) {
        let lists = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&lists);
        let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let query = request.uri().query().unwrap_or_default();
            assert!(query.contains("fieldSelector=metadata.name%3Dnode1"), "{query}");
            let node = serde_json::json!({"metadata": {"name": "node1", "uid": uid}});
            let list = serde_json::json!({"metadata": {}, "items": if uid.is_empty() { vec![] } else { vec![node] }});
            std::future::ready(Ok::<_, Infallible>(axum::http::Response::new(Body::from(list.to_string()))))
        });
        (Api::all(Client::new(service, "default")), lists)
    }

    #[tokio::test]
    async fn a_lease_belongs_to_its_node_which_is_looked_up_again_for_a_new_lease() {
        let made = |uid: &str| {
            let mut lease = lease("node1", &Presence::default(), None);
            lease.metadata.uid = Some(uid.to_owned());
            lease
        };
        let (nodes, lists) = server_with_node("n");
        let mut owner = Owner::default();
        for (uid, asked) in [("first", 1), ("first", 1), ("second", 2), ("second", 2)] {
            owner.follow(&nodes, "node1", &made(uid)).await.unwrap();
            assert_eq!(lists.load(Ordering::Relaxed), asked, "{uid}");
        }
        let written = lease("node1", &Presence::default(), owner.reference.as_ref());
        let references = serde_json::to_value(&written.metadata.owner_references).unwrap();
        assert_eq!(
            references,
            serde_json::json!([{"apiVersion": "v1", "kind": "Node", "name": "node1", "uid": "n"}])
        );
        let (nodes, lists) = server_with_node("");
        let mut owner = Owner::default();
        for asked in [1, 2] {
            owner.follow(&nodes, "node1", &made("first")).await.unwrap();
            assert_eq!((lists.load(Ordering::Relaxed), owner.reference.is_none()), (asked, true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_says_nothing_of_nodes_does_not_let_a_lease_run_out() {
        let service = tower::service_fn(|_: axum::http::Request<kube::client::Body>| {
            std::future::pending::<Result<axum::http::Response<Body>, Infallible>>()
        });
        let nodes = Api::<Node>::all(Client::new(service, "default"));
        let began = tokio::time::Instant::now();
        let lease = lease("node1", &Presence::default(), None);
        assert!(Owner::default().follow(&nodes, "node1", &lease).await.is_err());
        let passed = began.elapsed() + Duration::from_millis(PERIOD);
        assert!(2 * passed <= Duration::from_millis(DURATION), "two renewals take {:?}", 2 * passed);
    }

    /// An API server with silent watches. Counts the lists.
    fn silent_server() -> (Client, Arc<AtomicU32>) {
        let lists = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&lists);
        let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
            let body = match is_watch {
                true => Body::from_stream(futures::stream::pending::<io::Result<Vec<u8>>>()),
                false => {
                    counter.fetch_add(1, Ordering::Relaxed);
                    Body::from(r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#)
                }
            };
            std::future::ready(Ok::<_, Infallible>(axum::http::Response::new(body)))
        });
        (Client::new(service, "default"), lists)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_watch_is_given_up_and_the_leases_are_listed_again() {
        let (client, lists) = silent_server();
        let leases = Api::<Lease>::namespaced(client, "leases");
        let (members, _known) = watch::channel(Members::new());
        let ledger = Ledger::default();
        let patience = Duration::from_secs(60);
        drop(timeout(patience, follow(&leases, "node1", &members, &ledger)).await);
        assert_eq!(lists.load(Ordering::Relaxed), 10, "each watch lasts five seconds, and the pause is one");
        assert_eq!(ledger.get(&Origin::NodeLeases), []);
    }
}
