//! Runs one task for each probe of the manifests' Pods. Their results are one shared value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::super::pods::addresses;
use super::ask::Asker;
use super::probe::{Probe, probes_of};
use super::readiness::Readiness;
use super::sharing::Leader;
use super::{PodKey, pod_key};
use crate::model::complaint::{Complaint, Kind};

/// Requests that are open at the same time.
const MOST_QUESTIONS: usize = 256;
/// Time for which the first list of endpoints waits for the first answers, so that a start of the daemon takes no
/// serving Pod out.
const FIRST_ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Why a Pod is not ready before its first answer.
const NOT_ASKED: &str = "not asked yet";

/// Pod and field of a probe. A Pod with another address is another Pod.
pub type ProbeKey = (PodKey, String, Option<IpAddr>);

/// The tasks' results.
pub type Findings = BTreeMap<ProbeKey, Finding>;

#[derive(Clone, Debug)]
pub struct Finding {
    /// The task that may write here. A task that was ended may still have a result.
    task: u64,
    pub readiness: Readiness,
    /// Why it was not ready at the last change.
    pub reason: String,
}

/// Probes the Pods of the latest list.
#[derive(Debug)]
pub struct Prober {
    asker: Asker,
    open: Arc<Semaphore>,
    /// No task if another node probes.
    tasks: BTreeMap<ProbeKey, (Probe, Option<AbortHandle>)>,
    leader: Leader,
    findings: watch::Sender<Findings>,
    next_task: u64,
    refused: Vec<Complaint>,
    /// Pods have been listed: those that appear now are new.
    has_listed: bool,
    /// Rings when something has changed.
    bell: Arc<Notify>,
}

impl Prober {
    pub fn new(bell: Arc<Notify>) -> anyhow::Result<Self> {
        Ok(Self {
            asker: Asker::new()?,
            open: Arc::new(Semaphore::new(MOST_QUESTIONS)),
            tasks: BTreeMap::new(),
            leader: Leader::Own,
            findings: watch::Sender::default(),
            next_task: 0,
            refused: Vec::new(),
            has_listed: false,
            bell,
        })
    }

    /// Takes over the list of all Pods. A Pod whose probe changes keeps its readiness until the new one says otherwise. The first time
    /// this waits for the first answers, but not long.
    pub async fn update(&mut self, pods: Vec<&Pod>) {
        let mut wanted: BTreeMap<ProbeKey, Probe> = BTreeMap::new();
        self.refused.clear();
        for pod in pods {
            let (probes, refused) = probes_of(pod);
            let (key, address) = (pod_key(pod), addresses(pod).next());
            let probes = probes.into_iter().map(|(field, probe)| ((key.clone(), field, address), probe));
            wanted.extend(probes);
            self.refused.extend(refused);
        }
        let is_over =
            |(key, (probe, _)): &(&ProbeKey, &(Probe, Option<AbortHandle>))| wanted.get(key) != Some(probe);
        let over: Vec<ProbeKey> = self.tasks.iter().filter(is_over).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.end(&key, wanted.contains_key(&key));
        }
        for (key, probe) in wanted {
            if !self.tasks.contains_key(&key) {
                self.start(key, probe);
            }
        }
        if !std::mem::replace(&mut self.has_listed, true) {
            self.first_answers().await;
        }
    }

    async fn first_answers(&self) {
        let mut findings = self.findings.subscribe();
        let complete = findings.wait_for(|all| all.values().all(|f| f.readiness.is_ready().is_some()));
        drop(timeout(FIRST_ANSWERS_WITHIN, complete).await);
    }

    fn end(&mut self, key: &ProbeKey, is_changed: bool) {
        if let Some((_, Some(task))) = self.tasks.remove(key) {
            task.abort();
        }
        if !is_changed {
            self.findings.send_modify(|findings| drop(findings.remove(key)));
        }
    }

    fn start(&mut self, key: ProbeKey, probe: Probe) {
        let known = self.findings.borrow().get(&key).map(|finding| finding.readiness);
        let learned = self.learned(&key);
        let reason = learned.as_ref().map_or_else(|| NOT_ASKED.to_owned(), |(_, reason)| reason.clone());
        let (readiness, delay) = match learned.map(|(readiness, _)| readiness).or(known) {
            Some(readiness) => (readiness, Duration::ZERO),
            None if self.has_listed => (Readiness::NEW, probe.initial_delay),
            None => (Readiness::UNKNOWN, Duration::ZERO),
        };
        self.next_task += 1;
        let task = Task {
            number: self.next_task,
            key: key.clone(),
            probe: probe.clone(),
            asker: self.asker.clone(),
            open: Arc::clone(&self.open),
            findings: self.findings.clone(),
            bell: Arc::clone(&self.bell),
        };
        let finding = Finding { task: task.number, readiness, reason };
        self.findings.send_modify(|findings| drop(findings.insert(key.clone(), finding)));
        let is_asked_here = matches!(self.leader, Leader::Own);
        let handle = is_asked_here.then(|| tokio::spawn(task.run(readiness, delay)).abort_handle());
        self.tasks.insert(key, (probe, handle));
    }

    /// The findings, as they change.
    pub fn findings(&self) -> watch::Receiver<Findings> {
        self.findings.subscribe()
    }

    /// This node probes, or has the results of the node that does. Pods keep their readiness when that changes, and where
    /// the other node does not know them.
    pub fn follow(&mut self, leader: Leader) {
        let changes_node = matches!(leader, Leader::Own) != matches!(self.leader, Leader::Own);
        self.leader = leader;
        if changes_node {
            for (key, (probe, task)) in std::mem::take(&mut self.tasks) {
                task.iter().for_each(AbortHandle::abort);
                self.start(key, probe);
            }
            return;
        }
        self.findings.send_if_modified(|findings| {
            let mut is_changed = false;
            for (key, finding) in findings {
                let Some((readiness, reason)) = self.learned(key) else { continue };
                if finding.readiness.is_ready() != readiness.is_ready() || finding.reason != reason {
                    (finding.readiness, finding.reason) = (readiness, reason);
                    is_changed = true;
                }
            }
            is_changed
        });
    }

    /// The result that another node has.
    fn learned(&self, key: &ProbeKey) -> Option<(Readiness, String)> {
        let Leader::Other { node, results } = &self.leader else { return None };
        let (is_ready, reason) = results.get(key)?;
        Some((Readiness::learned(*is_ready), format!("probed by {node}: {reason}")))
    }

    /// Pods one of whose probes is not ready.
    pub fn unready(&self) -> BTreeSet<PodKey> {
        let findings = self.findings.borrow();
        let unready = findings.iter().filter(|(_, finding)| finding.readiness.is_ready() != Some(true));
        unready.map(|((pod, ..), _)| pod.clone()).collect()
    }

    /// Probes that cannot be asked, and Pods that are not ready.
    pub fn report(&self) -> Vec<Complaint> {
        let findings = self.findings.borrow();
        let unready = findings.iter().filter(|(_, finding)| finding.readiness.is_ready() != Some(true));
        let complaints = unready.map(|(((namespace, name), field, _), finding)| {
            Complaint::new(Kind::NotReady, format!("Pod {namespace}/{name}"), field, &finding.reason)
        });
        self.refused.iter().cloned().chain(complaints).collect()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.tasks.values().filter_map(|(_, task)| task.as_ref()).for_each(AbortHandle::abort);
    }
}

/// Asks one container again and again.
struct Task {
    number: u64,
    key: ProbeKey,
    probe: Probe,
    asker: Asker,
    open: Arc<Semaphore>,
    findings: watch::Sender<Findings>,
    bell: Arc<Notify>,
}

impl Task {
    async fn run(self, mut readiness: Readiness, delay: Duration) {
        sleep(delay).await;
        let mut period = interval_at(Instant::now(), self.probe.period);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let Ok(permit) = self.open.acquire().await else { return };
            let answer = self.asker.ask(&self.probe).await;
            drop(permit);
            let is_changed = readiness.note(answer.is_ok(), self.probe.thresholds);
            self.publish(readiness, is_changed, answer.err());
        }
    }

    fn publish(&self, readiness: Readiness, is_changed: bool, reason: Option<String>) {
        let is_news = self.findings.send_if_modified(|findings| {
            let own = findings.get_mut(&self.key).filter(|finding| finding.task == self.number);
            let Some(finding) = own else { return false };
            finding.readiness = readiness;
            // A Pod that was never ready has a reason from its first answer on.
            let is_news = is_changed || finding.reason == NOT_ASKED;
            if is_news && let Some(reason) = reason {
                finding.reason = reason;
            }
            is_news
        });
        if is_news {
            self.bell.notify_one();
        }
    }
}
