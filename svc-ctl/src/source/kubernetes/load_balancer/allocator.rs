//! Gives addresses while this node holds the Lease: lists everything first, then writes the statuses that differ.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::super::Options;
use super::super::feed::Feed;
use super::super::outbox::status::{change, publish_event, write};
use super::super::question::Selection;
use super::super::read::Whole;
use super::super::reflector::Reflector;
use super::decide::decide;
use super::in_order::in_order;
use super::{answer, now};
use crate::lb::AddressGiver;
use crate::lb::claim::Millis;
use crate::lb::usage::PoolsUse;
use crate::model::complaint::Origin;
use crate::model::name::ServiceName;
use crate::model::parse::parse_ip;
use crate::observe::ledger::Ledger;
use crate::source::event::{Batch, Event, SourceEvent};

/// Batches that may wait.
const EVENTS_AHEAD: usize = 4;
/// Services of an edit, or of many at once, are looked at together.
const SETTLE: Duration = Duration::from_millis(50);
/// Pause after a status that could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// Runs for ever.
pub async fn run(
    client: &Client,
    options: &Options,
    mut giver: AddressGiver,
    mut acts_until: watch::Receiver<Option<Millis>>,
    ledger: &Ledger,
) {
    loop {
        if acts_until.wait_for(|until| until.is_some_and(|until| now() < until)).await.is_err() {
            return pending().await;
        }
        // The view of an earlier term is not used: the other allocator has written since.
        let over = term_ends(acts_until.clone());
        tokio::select! {
            () = term(client, options, &mut giver, &acts_until, ledger) => {}
            () = over => tracing::info!("this node gives no load-balancer addresses any more"),
        }
        giver.usage.send_replace(PoolsUse::default());
        ledger.set(Origin::Allocator, Vec::new());
    }
}

async fn term_ends(mut acts_until: watch::Receiver<Option<Millis>>) {
    loop {
        let until = acts_until.borrow_and_update().unwrap_or_default();
        let left = until.saturating_sub(now());
        if left == 0 {
            return;
        }
        tokio::select! {
            () = sleep(Duration::from_millis(left)) => {}
            changed = acts_until.changed() => if changed.is_err() { return },
        }
    }
}

async fn term(
    client: &Client,
    options: &Options,
    giver: &mut AddressGiver,
    acts_until: &watch::Receiver<Option<Millis>>,
    ledger: &Ledger,
) {
    let (events_out, mut events) = mpsc::channel(EVENTS_AHEAD);
    let feed = Feed::new(events_out, ledger.clone(), Origin::AllocatorSource);
    let selection = Selection { page_size: super::super::PAGE_SIZE, ..Selection::default() };
    let follow = async {
        tokio::join!(
            Reflector::<Whole<Service>>::new(client, &feed, selection.clone()).follow(),
            Reflector::<Whole<Node>>::new(client, &feed, selection.clone()).follow(),
        );
    };
    let mut ranges = options.service_cidrs.as_ref().map(watch::Sender::subscribe);
    let give = async {
        let mut view = View::default();
        loop {
            if view.is_due() {
                let ranges = ranges.as_mut().map(|ranges| ranges.borrow_and_update().clone());
                let ranges = ranges.unwrap_or_else(|| options.known_service_cidrs.clone());
                view.has_changed = view.give(client, options, giver, &ranges, acts_until, ledger).await;
            }
            tokio::select! {
                batch = events.recv() => match batch {
                    Some(batch) => view.take(batch),
                    None => return,
                },
                Ok(()) = giver.settings.changed() => view.has_changed = true,
                () = changed(&mut ranges) => view.has_changed = true,
                () = sleep(RETRY), if view.is_due() => {}
            }
            sleep(SETTLE).await;
            while let Ok(batch) = events.try_recv() {
                view.take(batch);
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = give => {}
    }
}

async fn changed(ranges: &mut Option<watch::Receiver<Vec<IpNet>>>) {
    let is_new = match ranges {
        Some(ranges) => ranges.changed().await.is_ok(),
        None => false,
    };
    if !is_new {
        pending().await
    }
}

/// Objects of one kind by name, as the API server told of them in this term.
struct Objects<K, V> {
    by_name: BTreeMap<K, V>,
    /// Names of a list that is not complete yet.
    listing: Option<BTreeSet<K>>,
    is_listed: bool,
}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), listing: None, is_listed: false }
    }
}

impl<K: Clone + Ord, V: PartialEq> Objects<K, V> {
    fn begin_list(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    fn end_list(&mut self) {
        if let Some(listed) = self.listing.take() {
            self.by_name.retain(|name, _| listed.contains(name));
        }
        self.is_listed = true;
    }

    /// True: the object is new or differs.
    fn put(&mut self, name: K, object: V) -> bool {
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        let is_new = self.by_name.get(&name) != Some(&object);
        self.by_name.insert(name, object);
        is_new
    }
}

/// The cluster as the API server told it in this term.
#[derive(Default)]
struct View {
    services: Objects<ServiceName, Service>,
    nodes: Objects<String, Vec<IpAddr>>,
    /// Statuses that were written and have not come back yet: version and addresses.
    written: BTreeMap<ServiceName, (Option<String>, Vec<IpAddr>)>,
    /// Since the last decision, or a status could not be written. Most changes of a Node are none of its addresses.
    has_changed: bool,
}

impl View {
    /// Everything is listed, and something has changed since the last decision.
    const fn is_due(&self) -> bool {
        self.services.is_listed && self.nodes.is_listed && self.has_changed
    }

    fn take(&mut self, batch: Batch) {
        for event in batch {
            self.has_changed |= match event {
                SourceEvent::Service(event) => self.take_service(event),
                SourceEvent::Node(event) => self.take_node(event),
                SourceEvent::Slice(_) => false,
            };
        }
    }

    /// True: the decision may be another one now.
    fn take_service(&mut self, event: Event<Box<Service>>) -> bool {
        match event {
            Event::Init => {
                self.services.begin_list();
                return false;
            }
            Event::InitApply(service) | Event::Apply(service) => {
                let name = service_name(&service);
                let is_back = self
                    .written
                    .get(&name)
                    .is_some_and(|(version, _)| *version == service.metadata.resource_version);
                if is_back {
                    self.written.remove(&name);
                }
                self.services.put(name, *service);
            }
            Event::InitDone => {
                self.services.end_list();
                self.written.clear();
            }
            Event::Delete(service) => {
                self.services.by_name.remove(&service_name(&service));
                self.written.remove(&service_name(&service));
            }
        }
        true
    }

    /// True: the decision may be another one now.
    fn take_node(&mut self, event: Event<Box<Node>>) -> bool {
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        match event {
            Event::Init => {
                self.nodes.begin_list();
                false
            }
            Event::InitApply(node) | Event::Apply(node) => {
                let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
                let addresses = addresses.filter_map(|address| parse_ip(&address.address).ok()).collect();
                self.nodes.put(name(&node), addresses)
            }
            Event::InitDone => {
                self.nodes.end_list();
                true
            }
            Event::Delete(node) => self.nodes.by_name.remove(&name(&node)).is_some(),
        }
    }

    /// Writes the statuses that differ from what they should be. True: one could not be written.
    async fn give(
        &mut self,
        client: &Client,
        options: &Options,
        giver: &mut AddressGiver,
        ranges: &[IpNet],
        acts_until: &watch::Receiver<Option<Millis>>,
        ledger: &Ledger,
    ) -> bool {
        let settings = giver.settings.borrow_and_update().clone();
        let nodes = self.nodes.by_name.iter();
        let nodes = nodes.flat_map(|(name, ips)| ips.iter().map(|ip| (*ip, name.clone()))).collect();
        let written = self.written.iter().map(|(name, (_, ips))| (name.clone(), ips.clone())).collect();
        let decision = decide(&self.services.by_name, &written, &nodes, ranges, &settings);
        ledger.set(Origin::Allocator, decision.complaints);
        giver.usage.send_replace(decision.usage);
        let mut has_failed = false;
        for (name, outcome) in in_order(decision.outcomes, &decision.current) {
            let Some(service) = self.services.by_name.get(&name) else { continue };
            let Some(changed) = change(service, &outcome).filter(|_| !self.written.contains_key(&name))
            else {
                continue;
            };
            if acts_until.borrow().is_none_or(|until| now() >= until) {
                return true;
            }
            match answer(write(client, &changed)).await {
                Ok(version) => {
                    tracing::info!(service = %name, addresses = ?outcome.addresses, "load-balancer addresses of a Service");
                    publish_event(client, service, &outcome.addresses, &options.node_name).await;
                    self.written.insert(name, (version, outcome.addresses));
                }
                // A Service that has changed comes by the watch.
                Err(failure) => {
                    tracing::debug!(service = %name, error = failure.text, "writing the status of a Service");
                    has_failed = true;
                }
            }
        }
        has_failed
    }
}

fn service_name(service: &Service) -> ServiceName {
    let meta = &service.metadata;
    ServiceName::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}
