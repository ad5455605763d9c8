//! Gives addresses while this node holds the Lease: lists everything first, then writes the statuses that differ.

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::events::v1::Event as Notice;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::super::Options;
use super::super::feed::Feed;
use super::super::outbox::status::{Outcome, change, event, publish, write};
use super::super::question::Selection;
use super::super::read::WholeObject;
use super::super::reflector::Reflector;
use super::answer;
use super::decide::decide;
use super::in_order::in_order;
use super::namespaces;
use super::view::View;
use super::writes::Writes;
use crate::lb::AddressGiver;
use crate::lb::claim::Millis;
use crate::lb::clock::now;
use crate::lb::selector::Namespaces;
use crate::lb::settings::LoadBalancerSettings;
use crate::lb::usage::PoolsUse;
use crate::model::complaint::Origin;
use crate::model::name::ServiceName;
use crate::observe::ledger::Ledger;

/// Batches that may wait.
const EVENTS_AHEAD: usize = 4;
/// Services of one edit, or of many edits at once, are handled together.
const SETTLE: Duration = Duration::from_millis(50);
/// Timers stand still while the machine is suspended, and the Lease does not. So the Lease is checked this often.
const LOOK: Duration = Duration::from_secs(1);
/// Pause after the Lease has run out between two writes.
const RETRY: Duration = Duration::from_secs(1);
/// Events that may wait to be published. Further ones are left out, because the status has the same information.
const NOTICES_AHEAD: usize = 256;

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
        let over = term_ends(acts_until.clone(), now);
        tokio::select! {
            () = term(client, options, &mut giver, &acts_until, ledger) => {}
            () = over => tracing::info!("this node gives no load-balancer addresses any more"),
        }
        giver.usage.send_replace(PoolsUse::default());
        ledger.set(Origin::Allocator, Vec::new());
        ledger.set(Origin::AllocatorSource, Vec::new());
        ledger.set(Origin::Namespaces, Vec::new());
    }
}

async fn term_ends(mut acts_until: watch::Receiver<Option<Millis>>, now: impl Fn() -> Millis) {
    loop {
        let until = acts_until.borrow_and_update().unwrap_or_default();
        let left = until.saturating_sub(now());
        if left == 0 {
            return;
        }
        tokio::select! {
            () = sleep(Duration::from_millis(left).min(LOOK)) => {}
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
            Reflector::<WholeObject<Service>>::new(client, &feed, selection.clone()).follow(),
            Reflector::<WholeObject<Node>>::new(client, &feed, selection.clone()).follow(),
        );
    };
    let (namespaces_out, mut namespaces) = watch::channel(None);
    let mut selecting = giver.settings.clone();
    let follow_namespaces = async {
        if selecting.wait_for(|settings| settings.pools.selects_namespaces()).await.is_ok() {
            namespaces::follow(client, &namespaces_out, ledger).await;
        }
        pending::<()>().await;
    };
    let (notices, mut waiting) = mpsc::channel(NOTICES_AHEAD);
    let mut ranges = options.service_cidrs.as_ref().map(watch::Sender::subscribe);
    let serve = async {
        let mut view = View::default();
        let context = TermContext {
            client,
            node: &options.node_name,
            acts_until,
            ledger,
            usage: &giver.usage,
            notices: &notices,
        };
        let settings = &mut giver.settings;
        loop {
            let known: Option<Namespaces> = namespaces.borrow_and_update().clone();
            let is_known = known.is_some() || !settings.borrow().pools.selects_namespaces();
            if view.is_due() && is_known {
                let ranges = ranges.as_mut().map(|ranges| ranges.borrow_and_update().clone());
                let ranges = ranges.unwrap_or_else(|| options.known_service_cidrs.clone());
                let mut settings = settings.borrow_and_update().clone();
                settings.pools = settings.pools.in_namespaces(&known.unwrap_or_default());
                view.has_changed = give(&mut view, &context, &settings, &ranges).await;
            }
            tokio::select! {
                batch = events.recv() => match batch {
                    Some(batch) => view.take(batch),
                    None => return,
                },
                Ok(()) = settings.changed() => view.has_changed = true,
                () = changed(&mut ranges) => view.has_changed = true,
                Ok(()) = namespaces.changed() => view.has_changed = true,
                () = sleep(RETRY), if view.is_due() => {}
                () = until(view.writes.retry_at(now())) => view.has_changed = true,
            }
            sleep(SETTLE).await;
            while let Ok(batch) = events.try_recv() {
                view.take(batch);
            }
        }
    };
    // An Event without an answer does not delay the statuses.
    let send_events = async {
        while let Some(notice) = waiting.recv().await {
            if let Err(failure) = answer(publish(client, &notice)).await {
                tracing::debug!(error = failure.text, "an Event about a load-balancer address");
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = follow_namespaces => {}
        () = serve => {}
        () = send_events => {}
    }
}

async fn until(at: Option<Millis>) {
    match at {
        Some(at) => sleep(Duration::from_millis(at.saturating_sub(now()))).await,
        None => pending().await,
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

/// The inputs and outputs of a term: the API server, the ledger, the published values.
struct TermContext<'a> {
    client: &'a Client,
    node: &'a str,
    acts_until: &'a watch::Receiver<Option<Millis>>,
    ledger: &'a Ledger,
    usage: &'a watch::Sender<PoolsUse>,
    notices: &'a mpsc::Sender<Notice>,
}

/// Writes the statuses that differ from the allocation. Returns true if the Lease ran out before the last write.
async fn give(
    view: &mut View,
    context: &TermContext<'_>,
    settings: &LoadBalancerSettings,
    ranges: &[IpNet],
) -> bool {
    let nodes = view.nodes.by_name.iter();
    let nodes = nodes.flat_map(|(name, ips)| ips.iter().map(|ip| (*ip, name.clone()))).collect();
    let decision = decide(&view.services.by_name, &view.writes.addresses(), &nodes, ranges, settings);
    let complain = |writes: &Writes| {
        let complaints = decision.complaints.iter().cloned().chain(writes.complaints());
        context.ledger.set(Origin::Allocator, complaints.collect());
    };
    complain(&view.writes);
    context.usage.send_replace(decision.usage);
    let differs = |(name, outcome): (ServiceName, Outcome)| {
        let service = view.services.by_name.get(&name)?;
        Some((name, service, change(service, &outcome)?, outcome))
    };
    let due: Vec<_> =
        in_order(&decision.outcomes, &decision.current).into_iter().filter_map(differs).collect();
    let differing: BTreeSet<ServiceName> = due.iter().map(|(name, ..)| name.clone()).collect();
    for (name, service, changed, outcome) in due {
        let before = &service.metadata.resource_version;
        if !view.writes.may_write(&name, before, &outcome, now()) {
            continue;
        }
        if context.acts_until.borrow().is_none_or(|until| now() >= until) {
            return true;
        }
        match answer(write(context.client, &changed)).await {
            Ok(after) => {
                tracing::info!(service = %name, addresses = ?outcome.addresses, "load-balancer addresses of a Service");
                let notice = event(service, &outcome.addresses, context.node);
                if notice.is_some_and(|notice| context.notices.try_send(notice).is_err()) {
                    tracing::debug!(service = %name, "no Event about a load-balancer address: too many wait");
                }
                view.writes.accept(name, before, after, outcome);
            }
            Err(failure) => {
                if view.writes.fail(&name, &failure, now()) {
                    break;
                }
            }
        }
    }
    view.writes.end_round(&differing);
    complain(&view.writes);
    false
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use axum::body::Body;
    use axum::http::{Request, Response};
    use tokio::time::Instant;

    use super::*;

    /// An API server that accepts each status. Counts them.
    fn server() -> (Client, Arc<AtomicUsize>) {
        let written = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&written);
        let service = tower::service_fn(move |_: Request<kube::client::Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            let body = Body::from(r#"{"metadata": {"resourceVersion": "2"}}"#);
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        });
        (Client::new(service, "default"), written)
    }

    /// Three Services that wait for addresses.
    fn view() -> View {
        let mut view = View::default();
        for name in ["one", "two", "three"] {
            let yaml = format!(
                "{{metadata: {{name: {name}, namespace: shop, resourceVersion: '1'}}, spec: {{type: LoadBalancer, clusterIP: 10.0.0.1}}}}"
            );
            let service = serde_yaml_ng::from_str(&yaml).unwrap();
            view.services.by_name.insert(ServiceName::new("shop", name), service);
        }
        view
    }

    /// Gives addresses for one turn. Returns whether the Lease ran out, the written statuses, and the Events that wait.
    async fn give_once(acts_until: Millis, notices_ahead: usize) -> (bool, usize, usize) {
        let (client, written) = server();
        let (notices, waiting) = mpsc::channel(notices_ahead);
        let context = TermContext {
            client: &client,
            node: "node1",
            acts_until: &watch::channel(Some(acts_until)).1,
            ledger: &Ledger::default(),
            usage: &watch::channel(PoolsUse::default()).0,
            notices: &notices,
        };
        let section = "{pools: [{name: front, addresses: [192.0.2.0/29]}]}";
        let settings = LoadBalancerSettings::read(serde_yaml_ng::from_str(section).unwrap()).0;
        let has_run_out = give(&mut view(), &context, &settings, &[]).await;
        (has_run_out, written.load(Ordering::Relaxed), waiting.len())
    }

    #[tokio::test]
    async fn every_status_is_written_also_if_there_is_no_room_for_its_event() {
        assert_eq!(give_once(Millis::MAX, 2).await, (false, 3, 2));
        assert_eq!(give_once(Millis::MAX, NOTICES_AHEAD).await, (false, 3, 3));
    }

    #[tokio::test]
    async fn a_node_whose_lease_ran_out_while_it_was_suspended_writes_no_status() {
        assert_eq!(give_once(now(), NOTICES_AHEAD).await, (true, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_ran_out_during_a_suspend_ends_at_the_next_look() {
        let clock = Arc::new(AtomicU64::new(0));
        let (_granted, acts_until) = watch::channel(Some(10_000));
        let began = Instant::now();
        let reads = Arc::clone(&clock);
        // The machine sleeps for an hour after the first look. Timers do not notice.
        term_ends(acts_until, move || reads.fetch_add(3_600_000, Ordering::Relaxed)).await;
        assert_eq!((clock.load(Ordering::Relaxed), began.elapsed()), (2 * 3_600_000, LOOK));
    }
}
