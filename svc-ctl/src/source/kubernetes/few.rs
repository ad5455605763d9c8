//! Follows a kind of which there are few objects: they are listed and watched, and all of them are one value.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::failure::Failure;

/// Pause between two lists, for a server where every watch ends at once.
pub const PAUSE: Duration = Duration::from_secs(1);
/// The server ends a watch after 290 s, as kube requests. One that is silent for longer is dead.
const SILENT_WATCH: Duration = Duration::from_secs(295);

/// Lists the objects, and watches them until the watch ends. `take` gets all of them, by name, after the list and after
/// each change.
pub async fn turn<K: Resource + Clone + DeserializeOwned + Debug>(
    api: &Api<K>,
    mut take: impl FnMut(&BTreeMap<String, K>),
) -> Result<(), Failure> {
    let failed = |error: kube::Error| Failure::of(&error);
    let name = |object: &K| object.meta().name.clone().unwrap_or_default();
    let list = api.list(&ListParams::default()).await.map_err(failed)?;
    let mut all: BTreeMap<String, K> = list.items.into_iter().map(|object| (name(&object), object)).collect();
    take(&all);
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut changes = pin!(api.watch(&WatchParams::default(), &version).await.map_err(failed)?);
    while let Ok(Some(change)) = timeout(SILENT_WATCH, changes.next()).await {
        match change.map_err(failed)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                all.insert(name(&object), object);
            }
            WatchEvent::Deleted(object) => {
                all.remove(&name(&object));
            }
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => return Err(Failure::of_status(&status)),
        }
        take(&all);
    }
    Ok(())
}
