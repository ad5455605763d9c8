//! Sends the outbox's notices to the API server.

use std::future::pending;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::event::{event, starting};
use super::notice::Notice;
use super::{Next, Outbox};
use crate::observe::ledger::Complaints;
use crate::source::kubernetes::failure::{Failure, Pauses};

/// Status codes after which a later request may succeed: credentials are renewed, or the server is less busy.
const NOT_NOW: [u16; 3] = [401, 408, 429];
const NOT_FOUND: u16 = 404;
const FORBIDDEN: u16 = 403;
/// An object of that name exists.
const CONFLICT: u16 = 409;

/// Publishes the Event of the daemon's start, and complaints for ever.
pub async fn run(client: Client, node_name: &str, complaints: watch::Receiver<Complaints>) {
    tokio::join!(publish_start(&client, node_name), publish(&client, node_name, complaints));
}

async fn publish_start(client: &Client, node_name: &str) {
    let start = starting(node_name, env!("CARGO_PKG_VERSION"), Timestamp::now());
    let mut pauses = Pauses::default();
    while let Err(failure) = create(client, &start).await {
        tracing::debug!(error = failure.text, "publishing the Event of the start; it is tried again");
        sleep(pauses.after(&failure, false)).await;
    }
}

/// An API server that is away delays complaints; the order stays.
async fn publish(client: &Client, node_name: &str, mut complaints: watch::Receiver<Complaints>) {
    let (mut outbox, mut pauses) = (Outbox::default(), Pauses::default());
    loop {
        let now_wrong = complaints.borrow_and_update().clone();
        let now = Instant::now();
        outbox.turn(&now_wrong, now);
        let until = match outbox.next(now) {
            Next::Publish(notice, known_by) => {
                match publish_notice(client, node_name, &notice, known_by.as_deref()).await {
                    Ok(uid) => {
                        pauses.reset();
                        outbox.settle(&notice, uid, Instant::now());
                        continue;
                    }
                    Err(failure) => {
                        tracing::debug!(error = failure.text, "publishing an Event; it is tried again");
                        sleep(pauses.after(&failure, false)).await;
                        continue;
                    }
                }
            }
            Next::Wait(until) => Some(until),
            Next::Idle => None,
        };
        let rest = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            changed = complaints.changed() => if changed.is_err() { pending().await },
            () = rest => {}
        }
    }
}

/// Publishes one notice unless its object has got it. Returns the uid of the object that has it now.
async fn publish_notice(
    client: &Client,
    node_name: &str,
    notice: &Notice,
    known_by: Option<&str>,
) -> Result<Option<String>, Failure> {
    let uid = match &notice.service {
        // The kubelet uses the node's name as uid, too.
        None => Some(node_name.to_owned()),
        Some(service) => {
            let services = Api::<Service>::namespaced(client.clone(), &service.namespace);
            match services.get_metadata(&service.name).await.map_err(|error| Failure::of(&error)) {
                Ok(object) => object.metadata.uid,
                Err(failure) if failure.code == Some(NOT_FOUND) => return Ok(None),
                // An older ClusterRole only allows listing. `kubectl describe` will not show the Event, other
                // commands do.
                Err(failure) if failure.code == Some(FORBIDDEN) => None,
                Err(failure) => return Err(failure),
            }
        }
    };
    if uid.is_some() && uid.as_deref() == known_by {
        return Ok(uid);
    }
    create(client, &event(notice, uid.as_deref(), node_name, Timestamp::now())).await?;
    Ok(uid)
}

/// An error is worth another try.
async fn create(client: &Client, event: &Event) -> Result<(), Failure> {
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let events = Api::<Event>::namespaced(client.clone(), &namespace);
    match events.create(&PostParams::default(), event).await.map_err(|error| Failure::of(&error)) {
        Ok(_) => Ok(()),
        Err(failure) if !is_definite(&failure) => Err(failure),
        Err(failure) => {
            // Conflict: another node has sent the same, or this daemon before a restart.
            if failure.code != Some(CONFLICT) {
                tracing::warn!(
                    object = event.metadata.name,
                    error = failure.text,
                    "the API server refuses an Event"
                );
            }
            Ok(())
        }
    }
}

/// The server would answer a second request in the same way.
fn is_definite(failure: &Failure) -> bool {
    failure.code.is_some_and(|code| (400..500).contains(&code) && !NOT_NOW.contains(&code))
}
