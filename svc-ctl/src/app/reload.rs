//! Follows the configuration file. Changes of the plan's and the log's settings are in force at once. Every other
//! change waits for a restart, and is named in the log, in `svc-ctl status` and by an Event on the Node. A bad file
//! never ends the daemon.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::config::{Config, ConfigurationInForce, Reload};
use crate::lb::settings::LoadBalancerSettings;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::observe::ledger::Ledger;
use crate::plan::settings::Settings;

/// Flags that a changed file changes at once.
const LIVE: [&str; 5] =
    ["masquerade-all", "masquerade-local-backends", "nodeport-addresses", "selection", "v"];
/// This flag changes at once too, if the programs look up such prefixes already.
const SERVICE_CIDR: &str = "service-cidr";
/// A file is written in several steps: they are one change.
const SETTLE: Duration = Duration::from_millis(200);
/// Period after which the file is read again even without an inotify event.
const LOOK_PERIOD: Duration = Duration::from_secs(30);

/// The configuration in force, and the receivers of its changes.
pub struct Reloader {
    pub config: Config,
    pub reload: Reload,
    pub settings: watch::Sender<Settings>,
    pub in_force: watch::Sender<ConfigurationInForce>,
    pub load_balancer: watch::Sender<LoadBalancerSettings>,
    pub ledger: Ledger,
}

impl Reloader {
    /// Runs for ever, also where there is no file.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let Some(file) = self.config.file.clone() else { return std::future::pending().await };
        let (changed, mut changes) = mpsc::unbounded_channel();
        let folder = folder_of(&file.path);
        let _watcher = watch_folder(&folder, changed)
            .inspect_err(|error| tracing::warn!(%error, "the configuration file is looked at every 30 s"))
            .ok();
        let mut text = file.text;
        loop {
            // A closed channel means that there is no inotify.
            if let Ok(None) = timeout(LOOK_PERIOD, changes.recv()).await {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
            // A file that is away for a moment is being replaced.
            let read = std::fs::read_to_string(&file.path);
            if let Some(new) = read.ok().filter(|new| *new != text) {
                text = new;
                self.take((self.reload.read)());
            }
        }
    }

    /// Puts in force the settings that can change at run time, and names the others.
    fn take(&mut self, read: anyhow::Result<Config>) {
        let object = self.config.file.as_ref().map(|file| format!("--config {}", file.path.display()));
        let object = object.unwrap_or_default();
        let complain = |field: &str, reason: String| {
            tracing::warn!(object, field, reason, "the configuration file has changed");
            Complaint::new(Kind::Configuration, object.as_str(), field, reason)
        };
        let new = match read {
            Ok(new) => new,
            Err(error) => {
                let text = format!("{error:#}");
                // The complaint names the file already.
                let text = text
                    .strip_prefix(object.as_str())
                    .map_or(text.as_str(), |rest| rest.trim_start_matches(": "));
                let reason = format!("it cannot be used; the earlier configuration stays in force: {text}");
                return self.ledger.set(Origin::Configuration, vec![complain("", reason)]);
            }
        };
        let mut complaints = new.complaints.clone();
        for name in differences(&self.config, &new) {
            let value = |config: &Config| config.in_force.flags.get(&name).cloned().unwrap_or_default();
            let (old, wanted) = (value(&self.config), value(&new));
            if self.is_live(&name, &new) {
                tracing::info!(flag = name, from = old, to = wanted, "the configuration file has changed");
                continue;
            }
            let reason = format!("{wanted:?} needs a restart of svc; {old:?} is in force until then");
            complaints.push(complain(&format!("--{name}"), reason));
        }
        self.put_in_force(&new);
        self.ledger.set(Origin::Configuration, complaints);
    }

    fn is_live(&self, flag: &str, new: &Config) -> bool {
        let has_cidrs = |config: &Config| !config.settings.service_cidrs.0.is_empty();
        LIVE.contains(&flag) || flag == SERVICE_CIDR && has_cidrs(&self.config) && has_cidrs(new)
    }

    fn put_in_force(&mut self, new: &Config) {
        let has_cidrs = self.is_live(SERVICE_CIDR, new);
        let take = |settings: &mut Settings| {
            settings.node_port_addresses.clone_from(&new.settings.node_port_addresses);
            settings.masquerade = new.settings.masquerade;
            settings.selection = new.settings.selection;
            if has_cidrs {
                settings.service_cidrs.clone_from(&new.settings.service_cidrs);
            }
        };
        take(&mut self.config.settings);
        // Service CIDRs may be the API server's.
        self.settings.send_if_modified(|known| {
            let before = known.clone();
            take(known);
            *known != before
        });
        self.load_balancer.send_if_modified(|known| {
            // A mistake in the file takes no address back.
            let is_new = new.load_balancer.is_whole && *known != new.load_balancer;
            if is_new {
                known.clone_from(&new.load_balancer);
            }
            is_new
        });
        if self.config.verbosity != new.verbosity {
            self.config.verbosity = new.verbosity;
            (self.reload.log_level)(new.verbosity);
        }
        let live: BTreeSet<String> =
            differences(&self.config, new).into_iter().filter(|name| self.is_live(name, new)).collect();
        self.config.in_force = merged(&self.config.in_force, &new.in_force, &live);
        self.in_force.send_replace(self.config.in_force.clone());
    }
}

/// Flags whose values differ.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (&old.in_force.flags, &new.in_force.flags);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

/// Flags that are live have their new values.
fn merged(
    old: &ConfigurationInForce,
    new: &ConfigurationInForce,
    live: &BTreeSet<String>,
) -> ConfigurationInForce {
    let mut flags = (*old.flags).clone();
    for name in live {
        match new.flags.get(name) {
            Some(value) => flags.insert(name.clone(), value.clone()),
            None => flags.remove(name),
        };
    }
    let mut document = (*old.document).clone();
    // The fields of the flags that are live.
    for pointer in ["/nodePortAddresses", "/nftables/masqueradeAll", "/logging/verbosity"] {
        if let (Some(known), Some(value)) = (document.pointer_mut(pointer), new.document.pointer(pointer)) {
            known.clone_from(value);
        }
    }
    ConfigurationInForce { document: document.into(), flags: flags.into() }
}

/// kubelet replaces the folder of a ConfigMap by changing a link beside the file.
fn folder_of(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

fn watch_folder(folder: &Path, changed: mpsc::UnboundedSender<()>) -> anyhow::Result<RecommendedWatcher> {
    let context = || format!("watching {}", folder.display());
    // Reads are no change; svc itself reads the file.
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = changed.send(());
        }
    };
    let mut watcher = notify::recommended_watcher(on_event).with_context(context)?;
    watcher.watch(folder, RecursiveMode::NonRecursive).with_context(context)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests;
