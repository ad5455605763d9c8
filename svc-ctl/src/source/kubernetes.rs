//! The Kubernetes API: Services, EndpointSlices and our own Node, listed and watched.
//!
//! A watch that breaks is taken up where it was; one that is too old (410) is listed anew, and until the new list is
//! complete everything known stays in force. Failures are tried again with growing pauses, for ever.

mod connect;
mod events;
mod resolve;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

pub use self::connect::{SERVICE_ACCOUNT, connect};
use super::event::{Batch, Event, SourceEvent};
use crate::model::rejected::Rejected;
use crate::model::warning::Warning;

/// Other proxies' Services are not even sent to us (SEM-003).
const SERVICE_LABELS: &str = "!service.kubernetes.io/service-proxy-name";
/// Nor headless ones, by servers that know the field (1.31).
const SERVICE_FIELDS: &str = "spec.clusterIP!=None";
/// Nor the slices of headless Services (SEM-004).
const SLICE_LABELS: &str = "!service.kubernetes.io/headless";

/// Pause after the first failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that is well may refuse so often in a row: the version is too old, lists are not streamed, the selector is not
/// known. After that it is a failure like any other.
const REFUSALS: u32 = 3;
/// Events that have arrived together go on together, but no more of them than this.
const MAX_BATCH: usize = 1024;

/// How to reach the API and what to ask of it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--kubeconfig`; without it the pod's service account is used.
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: overrides the address.
    pub master: Option<String>,
    /// Where a pod finds its credentials: [`SERVICE_ACCOUNT`].
    pub service_account: PathBuf,
    pub node_name: String,
    /// Ask for the first list as a stream (servers from 1.32 on); falls back by itself.
    pub streaming_lists: bool,
    /// Objects in a page of a list; the library's default if zero.
    pub page_size: u32,
}

/// Lists and watches until nobody listens any more, and publishes warnings as Events.
pub async fn run(
    client: Client,
    options: Options,
    events: mpsc::Sender<Batch>,
    warnings: mpsc::Receiver<Warning>,
) {
    let feed = Feed { events, options, failing: Mutex::default() };
    let services = watcher::Config::default().labels(SERVICE_LABELS).fields(SERVICE_FIELDS);
    let slices = watcher::Config::default().labels(SLICE_LABELS);
    let node = watcher::Config::default().fields(&format!("metadata.name={}", feed.options.node_name));
    tokio::join!(
        feed.follow("Services", Api::<Service>::all(client.clone()), services, SourceEvent::Service),
        feed.follow("EndpointSlices", Api::<EndpointSlice>::all(client.clone()), slices, SourceEvent::Slice),
        feed.follow("our Node", Api::<Node>::all(client.clone()), node, SourceEvent::Node),
        events::publish(client, &feed.options.node_name, warnings),
    );
}

/// The way out of all watches.
struct Feed {
    events: mpsc::Sender<Batch>,
    options: Options,
    /// What does not work at the moment, by kind.
    failing: Mutex<BTreeMap<&'static str, String>>,
}

impl Feed {
    /// Follows one kind of object.
    async fn follow<T>(
        &self,
        kind: &'static str,
        api: Api<T>,
        mut config: watcher::Config,
        wrap: impl Fn(Event<Box<T>>) -> SourceEvent,
    ) where
        T: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        if self.options.page_size > 0 {
            config = config.page_size(self.options.page_size);
        }
        if self.options.streaming_lists {
            config = config.streaming_lists();
        }
        let (mut pause, mut refusals) = (FIRST_PAUSE, 0);
        loop {
            let mut stream = pin!(watcher(api.clone(), config.clone()).ready_chunks(MAX_BATCH));
            while let Some(chunk) = stream.next().await {
                let (batch, error) = sort(chunk, &wrap);
                // A list that only begins is no success yet.
                if batch.iter().any(|event| !is_begin(event)) && error.is_none() {
                    (pause, refusals) = (FIRST_PAUSE, 0);
                    self.tell(kind, None).await;
                }
                if !batch.is_empty() && self.events.send(batch).await.is_err() {
                    return;
                }
                let Some(error) = error else { continue };
                let next = after(&error, &config);
                // The pause may have grown long while the server was away; now it is there.
                let is_refusal = refusals < REFUSALS && (next.is_some() || is_too_old(&error));
                let rest = if is_refusal { FIRST_PAUSE } else { pause };
                let text = with_causes(&error);
                tracing::warn!(kind, error = text, pause_ms = rest.as_millis(), "the Kubernetes API fails");
                self.tell(kind, Some(text)).await;
                tokio::select! {
                    () = tokio::time::sleep(with_jitter(rest)) => {}
                    () = self.events.closed() => return,
                }
                if is_refusal {
                    refusals += 1;
                } else {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                if let Some(next) = next {
                    config = next;
                    break;
                }
            }
        }
    }

    /// Says what does not work, if that is news.
    async fn tell(&self, kind: &'static str, problem: Option<String>) {
        let report = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            let before = match &problem {
                Some(problem) => failing.insert(kind, problem.clone()),
                None => failing.remove(kind),
            };
            if before == problem {
                return;
            }
            let reject =
                |(kind, reason): (&&str, &String)| Rejected::new("Kubernetes API", *kind, reason.as_str());
            failing.iter().map(reject).collect()
        };
        // Who no longer listens is noticed by the next event.
        drop(self.events.send(vec![SourceEvent::Report(report)]).await);
    }
}

const fn is_begin(event: &SourceEvent) -> bool {
    matches!(
        event,
        SourceEvent::Service(Event::Init) | SourceEvent::Slice(Event::Init) | SourceEvent::Node(Event::Init)
    )
}

/// Events to send, and the last failure among them.
fn sort<T: Resource>(
    chunk: Vec<watcher::Result<watcher::Event<T>>>,
    wrap: &impl Fn(Event<Box<T>>) -> SourceEvent,
) -> (Batch, Option<watcher::Error>) {
    let (mut batch, mut error) = (Batch::new(), None);
    for result in chunk {
        match result {
            Ok(event) => batch.push(wrap(translate(event))),
            Err(failure) => error = Some(failure),
        }
    }
    (batch, error)
}

fn translate<T: Resource>(event: watcher::Event<T>) -> Event<Box<T>> {
    // The largest part of many objects, and nobody looks at it.
    let trim = |mut object: T| {
        object.managed_fields_mut().clear();
        Box::new(object)
    };
    match event {
        watcher::Event::Init => Event::Init,
        watcher::Event::InitApply(object) => Event::InitApply(trim(object)),
        watcher::Event::InitDone => Event::InitDone,
        watcher::Event::Apply(object) => Event::Apply(trim(object)),
        watcher::Event::Delete(object) => Event::Delete(trim(object)),
    }
}

/// The watch has been told so; the library lists anew by itself.
fn is_too_old(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}

/// What a new watch must do otherwise, where the old one cannot go on by itself.
fn after(error: &watcher::Error, config: &watcher::Config) -> Option<watcher::Config> {
    use kube::Error::Api;
    use watcher::{Error as E, InitialListStrategy as Strategy};
    match error {
        // The resource version is too old, and the library would ask for it again and again.
        E::WatchStartFailed(Api(status)) if status.code == 410 => Some(config.clone()),
        // Servers before 1.32 may refuse to stream lists, those before 1.31 do not know the field selector.
        E::InitialListFailed(Api(status)) | E::WatchStartFailed(Api(status))
            if matches!(status.code, 400 | 405 | 415 | 422) =>
        {
            let mut simpler = config.clone();
            if simpler.initial_list_strategy == Strategy::StreamingList {
                simpler.initial_list_strategy = Strategy::ListWatch;
            } else if simpler.field_selector.as_deref() == Some(SERVICE_FIELDS) {
                simpler.field_selector = None;
            }
            Some(simpler)
        }
        _ => None,
    }
}

/// The error and what is behind it; many of the library's errors repeat their cause, and many do not.
fn with_causes(error: &watcher::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        next = cause.source();
    }
    text
}

/// Up to half as long again, so that all nodes of a cluster do not come back at once.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(());
    pause + pause.mul_f64((random % 512) as f64 / 1024.0)
}
