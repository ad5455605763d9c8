//! Watches the folder and the health of its Pods and nodes, and sends the changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Manifests;
use super::health::Health;
use super::health::observer::{HealthOptions, Observer};
use super::load_balancers::members;
use super::name_servers::NameServers;
use super::writers::{SETTLE_MILLIS, WRITING_SECS, Writers};
use crate::lb::AddressGiver;
use crate::model::complaint::Origin;
use crate::observe::ledger::Ledger;
use crate::source::event::Batch;

/// Pause between two scans of the folder without an event: the folder may have been away, the watch may have
/// overflowed, or a network file system sends no events.
const RESCAN_SECS: u64 = 5;

/// Settings for following a folder.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Range of the Services' ClusterIPs. Without a range Services must write them.
    pub service_cidrs: Vec<IpNet>,
    /// Folder of the file with the values that Services were given. By default there is no file.
    pub state_dir: Option<PathBuf>,
    pub health: HealthOptions,
    /// Services get load-balancer addresses.
    pub load_balancer: Option<AddressGiver>,
    /// Services may ask for DNS.
    pub name_servers: Option<NameServers>,
}

/// Follows until the receiver is dropped. Fails only if the folder does not exist at the start.
pub async fn run(
    path: PathBuf,
    options: Options,
    events: mpsc::Sender<Batch>,
    ledger: &Ledger,
) -> anyhow::Result<()> {
    let mut manifests = Manifests::open(&path)?.with_service_cidrs(options.service_cidrs);
    if let Some(dir) = &options.state_dir {
        manifests = manifests.with_state_dir(dir);
    }
    let mut load_balancer = options.load_balancer;
    let mut observer = Observer::start(&options.health)?;
    let mut in_force = Health::default();
    let (folder_changed, mut folder_changes) = mpsc::unbounded_channel();
    let mut watcher = watch(&manifests.folder, &folder_changed);
    let mut writers = Writers::default();
    let mut due = Instant::now();
    loop {
        let mut is_new = false;
        if Instant::now() >= due {
            is_new = manifests.read(&writers.writing());
            if is_new {
                observer.update(&manifests).await;
            }
            if watcher.is_none() || manifests.folder_problem.is_some() {
                watcher = watch(&manifests.folder, &folder_changed);
            }
            let rescan = if writers.is_empty() { RESCAN_SECS } else { WRITING_SECS };
            due = Instant::now() + Duration::from_secs(rescan);
        }
        if let Some(AddressGiver { settings, members: nodes, .. }) = &mut load_balancer {
            let settings = settings.borrow_and_update();
            if manifests.load_balancer != *settings {
                manifests.load_balancer.clone_from(&settings);
                is_new = true;
            }
            let now = members(&manifests.nodes(), &observer.silent());
            nodes.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
        }
        observer.learn();
        let health = observer.health();
        if is_new || health != in_force {
            let batch = manifests.batch(&health);
            in_force = health;
            if let Some(AddressGiver { usage, .. }) = &load_balancer {
                usage.send_replace(manifests.pools_use.clone());
            }
            options.name_servers.iter().for_each(|to| manifests.publish_name_servers(to));
            ledger.set(Origin::Source, manifests.report().to_vec());
            if !batch.is_empty() && events.send(batch).await.is_err() {
                return Ok(());
            }
        }
        ledger.set(Origin::Pods, observer.report());
        tokio::select! {
            () = events.closed() => return Ok(()),
            () = tokio::time::sleep_until(due) => {}
            () = observer.changed() => {}
            () = settings_changed(&mut load_balancer) => {}
            event = folder_changes.recv() => {
                let soon = match event {
                    Some(Ok(event)) => writers.note(&event),
                    // The watch itself has a problem, so the folder is scanned.
                    Some(Err(_)) | None => Some(Duration::from_millis(SETTLE_MILLIS)),
                };
                // A change before the settling time is over belongs to the same edit.
                due = soon.map_or(due, |soon| due.min(Instant::now() + soon));
            }
        }
    }
}

/// Waits for other pools, for ever if there are none.
async fn settings_changed(of: &mut Option<AddressGiver>) {
    let is_new = match of {
        Some(giver) => giver.settings.changed().await.is_ok(),
        None => false,
    };
    if !is_new {
        std::future::pending().await
    }
}

/// Without inotify the folder is scanned from time to time.
fn watch(
    folder: &Path,
    folder_changed: &mpsc::UnboundedSender<notify::Result<notify::Event>>,
) -> Option<RecommendedWatcher> {
    let folder_changed = folder_changed.clone();
    let result =
        notify::recommended_watcher(move |event| drop(folder_changed.send(event))).and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
    result
        .inspect_err(
            |error| tracing::warn!(folder = %folder.display(), %error, "cannot watch; looking every 5 s"),
        )
        .ok()
}
