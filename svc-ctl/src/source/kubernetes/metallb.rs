//! Reads MetalLB's objects where it is installed. Without a right to read them, or without MetalLB, there are none.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::failure::{Failure, Pauses};
use super::{few, rights};
use crate::lb::metallb::{GROUP, Kind, Object, Objects, OfKind};
use crate::lb::settings::LoadBalancerSettings;
use crate::model::complaint::{Complaint, Kind as Problem, Origin};
use crate::observe::ledger::Ledger;

/// Pause before the right to read is looked at again.
const RIGHT_PAUSE: Duration = Duration::from_secs(600);
/// Pause before a kind that is not there is looked for again, if its definition cannot be watched.
const MISSING_PAUSE: Duration = Duration::from_secs(60);

/// Publishes the objects of the namespace that the settings name. Runs for ever. While they cannot be read, the earlier ones
/// count.
pub async fn follow(
    client: &Client,
    mut settings: watch::Receiver<LoadBalancerSettings>,
    objects: &watch::Sender<Objects>,
    ledger: &Ledger,
) {
    loop {
        let namespace = settings.borrow_and_update().metallb_namespace.clone();
        ledger.set(Origin::MetalLbSource, Vec::new());
        let is_another = |settings: &LoadBalancerSettings| settings.metallb_namespace != namespace;
        tokio::select! {
            () = of_namespace(client, &namespace, objects, ledger) => {}
            // The daemon ends if there are no settings any more.
            _ = settings.wait_for(is_another) => {}
        }
    }
}

async fn of_namespace(client: &Client, namespace: &str, objects: &watch::Sender<Objects>, ledger: &Ledger) {
    if namespace.is_empty() {
        objects.send_replace(Objects::none());
        return std::future::pending().await;
    }
    let (has_pools, mut installed) = watch::channel(false);
    let problems = Problems { ledger, all: Mutex::default() };
    let reader = Reader { client, namespace, objects, has_pools, problems };
    reader.wait_for_right().await;
    let others = async {
        // Most clusters have none of the kinds: only the first is looked for.
        if installed.wait_for(|has_pools| *has_pools).await.is_ok() {
            futures::future::join_all(Kind::OTHERS.map(|kind| reader.follow(kind))).await;
        }
    };
    tokio::join!(reader.follow(Kind::Pool), others);
}

/// Kinds that cannot be read now.
struct Problems<'a> {
    ledger: &'a Ledger,
    all: Mutex<BTreeMap<Kind, Complaint>>,
}

impl Problems<'_> {
    fn set(&self, kind: Kind, failure: Option<&Failure>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(failure) => {
                let field = format!("{}s of {GROUP}", kind.name());
                let text = failure.text.clone();
                all.insert(kind, Complaint::new(Problem::Source, "Kubernetes API", field, text));
            }
            None => drop(all.remove(&kind)),
        }
        self.ledger.set(Origin::MetalLbSource, all.values().cloned().collect());
    }
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    objects: &'a watch::Sender<Objects>,
    /// The API server has served pools.
    has_pools: watch::Sender<bool>,
    problems: Problems<'a>,
}

impl Reader<'_> {
    /// Returns when objects may be read. Until then there are none.
    async fn wait_for_right(&self) {
        let mut pauses = Pauses::default();
        loop {
            let (pools, namespace) = (Kind::Pool.plural(), Some(self.namespace));
            let answer = rights::is_allowed(self.client, "list", GROUP, pools, namespace).await;
            let answer = answer.map_err(|error| Failure::of(&error));
            self.problems.set(Kind::Pool, answer.as_ref().err());
            let pause = match answer {
                Ok(true) => return,
                Ok(false) => {
                    self.objects.send_if_modified(|objects| {
                        let is_first = !objects.are_known();
                        if is_first {
                            *objects = Objects::none();
                        }
                        is_first
                    });
                    RIGHT_PAUSE
                }
                Err(failure) => pauses.after(&failure, false),
            };
            sleep(pause).await;
        }
    }

    /// Publishes the objects of a kind for ever.
    async fn follow(&self, kind: Kind) {
        let resource = ApiResource {
            group: GROUP.to_owned(),
            version: kind.version().to_owned(),
            api_version: format!("{GROUP}/{}", kind.version()),
            kind: kind.name().to_owned(),
            plural: kind.plural().to_owned(),
        };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), self.namespace, &resource);
        let mut pauses = Pauses::default();
        loop {
            let turn = few::turn(&api, |all| {
                self.problems.set(kind, None);
                self.publish(
                    kind,
                    all.iter().map(|(name, written)| (name.clone(), object(written))).collect(),
                );
            });
            let pause = match turn.await {
                Ok(()) => {
                    pauses.reset();
                    few::PAUSE
                }
                Err(failure) if failure.code == Some(404) => {
                    self.problems.set(kind, None);
                    self.is_missing(kind);
                    self.wait_for_definition(kind).await;
                    // The API server serves a kind some time after its definition.
                    pauses.after(&failure, false)
                }
                Err(failure) => {
                    self.problems.set(kind, Some(&failure));
                    pauses.after(&failure, false)
                }
            };
            sleep(pause).await;
        }
    }

    fn publish(&self, kind: Kind, all: OfKind) {
        self.objects.send_if_modified(|objects| {
            if kind == Kind::Pool && !self.has_pools.send_replace(true) {
                // The other kinds were taken for none, and are read now.
                *objects = Objects::default();
            }
            objects.set(kind, all)
        });
    }

    /// The kind is not installed, and without pools no other one counts.
    fn is_missing(&self, kind: Kind) {
        self.objects.send_if_modified(|objects| {
            let is_alone = kind == Kind::Pool && !objects.are_known();
            match is_alone {
                true => *objects = Objects::none(),
                false => return objects.set(kind, OfKind::new()),
            }
            true
        });
    }

    /// Returns when the kind has a definition, or when it should be looked for again.
    async fn wait_for_definition(&self, kind: Kind) {
        if let Err(failure) = self.watch_definition(kind).await {
            tracing::debug!(kind = kind.name(), error = failure.text, "the definition cannot be watched");
            sleep(MISSING_PAUSE).await;
        }
    }

    async fn watch_definition(&self, kind: Kind) -> Result<(), Failure> {
        let failed = |error: kube::Error| Failure::of(&error);
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = format!("metadata.name={}.{GROUP}", kind.plural());
        let list = api.list_metadata(&ListParams::default().fields(&name)).await.map_err(failed)?;
        if !list.items.is_empty() {
            return Ok(());
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        let changes = api.watch_metadata(&WatchParams::default().fields(&name), &version).await;
        let mut changes = pin!(changes.map_err(failed)?);
        while let Some(change) = changes.next().await {
            match change.map_err(failed)? {
                WatchEvent::Added(_) | WatchEvent::Modified(_) => return Ok(()),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(Failure::of_status(&status)),
            }
        }
        Ok(())
    }
}

fn object(written: &DynamicObject) -> Object {
    let meta = &written.metadata;
    Object {
        namespace: meta.namespace.clone().unwrap_or_default(),
        created: meta.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        labels: meta.labels.clone().unwrap_or_default(),
        spec: written.data.get("spec").cloned().unwrap_or(Value::Null),
    }
}
