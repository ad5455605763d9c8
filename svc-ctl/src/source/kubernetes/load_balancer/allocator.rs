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
use super::super::outbox::status::{change, tell, write};
use super::super::question::Selection;
use super::super::read::Whole;
use super::super::reflector::Reflector;
use super::decide::{Services, decide};
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
            let failed = match view.is_listed() {
                true => {
                    let ranges = ranges.as_mut().map(|ranges| ranges.borrow_and_update().clone());
                    let ranges = ranges.unwrap_or_else(|| options.known_service_cidrs.clone());
                    view.give(client, options, giver, &ranges, acts_until, ledger).await
                }
                false => false,
            };
            tokio::select! {
                batch = events.recv() => match batch {
                    Some(batch) => view.take(batch),
                    None => return,
                },
                Ok(()) = giver.settings.changed() => {}
                () = changed(&mut ranges) => {}
                () = sleep(RETRY), if failed => {}
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

/// The cluster as the API server told it in this term.
#[derive(Default)]
struct View {
    services: Services,
    listed_services: Option<BTreeSet<ServiceName>>,
    has_services: bool,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    listed_nodes: Option<BTreeSet<String>>,
    has_nodes: bool,
    /// Statuses that were written and have not come back yet: version and addresses.
    written: BTreeMap<ServiceName, (Option<String>, Vec<IpAddr>)>,
}

impl View {
    const fn is_listed(&self) -> bool {
        self.has_services && self.has_nodes
    }

    fn take(&mut self, batch: Batch) {
        for event in batch {
            match event {
                SourceEvent::Service(event) => self.take_service(event),
                SourceEvent::Node(event) => self.take_node(event),
                SourceEvent::Slice(_) => {}
            }
        }
    }

    fn take_service(&mut self, event: Event<Box<Service>>) {
        match event {
            Event::Init => self.listed_services = Some(BTreeSet::new()),
            Event::InitApply(service) | Event::Apply(service) => {
                let name = service_name(&service);
                if let Some(listed) = &mut self.listed_services {
                    listed.insert(name.clone());
                }
                let is_back = self
                    .written
                    .get(&name)
                    .is_some_and(|(version, _)| *version == service.metadata.resource_version);
                if is_back {
                    self.written.remove(&name);
                }
                self.services.insert(name, *service);
            }
            Event::InitDone => {
                if let Some(listed) = self.listed_services.take() {
                    self.services.retain(|name, _| listed.contains(name));
                }
                self.written.clear();
                self.has_services = true;
            }
            Event::Delete(service) => {
                self.services.remove(&service_name(&service));
                self.written.remove(&service_name(&service));
            }
        }
    }

    fn take_node(&mut self, event: Event<Box<Node>>) {
        let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
        match event {
            Event::Init => self.listed_nodes = Some(BTreeSet::new()),
            Event::InitApply(node) | Event::Apply(node) => {
                let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
                let addresses = addresses.filter_map(|address| parse_ip(&address.address).ok()).collect();
                if let Some(listed) = &mut self.listed_nodes {
                    listed.insert(name(&node));
                }
                self.nodes.insert(name(&node), addresses);
            }
            Event::InitDone => {
                if let Some(listed) = self.listed_nodes.take() {
                    self.nodes.retain(|name, _| listed.contains(name));
                }
                self.has_nodes = true;
            }
            Event::Delete(node) => drop(self.nodes.remove(&name(&node))),
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
        let nodes = self.nodes.values().flatten().copied().collect();
        let written = self.written.iter().map(|(name, (_, ips))| (name.clone(), ips.clone())).collect();
        let decision = decide(&self.services, &written, &nodes, ranges, &settings);
        ledger.set(Origin::Allocator, decision.complaints);
        giver.usage.send_replace(decision.usage);
        let mut has_failed = false;
        // Addresses are taken back before they are given to others.
        let (losers, winners): (Vec<_>, Vec<_>) =
            decision.outcomes.into_iter().partition(|(_, outcome)| outcome.addresses.is_empty());
        for (name, outcome) in losers.into_iter().chain(winners) {
            let Some(service) = self.services.get(&name) else { continue };
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
                    tell(client, service, &outcome.addresses, &options.node_name).await;
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
