//! Time until a change is in force, and the phases of that time.

use std::fmt;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::sync::watch;

use super::Part;
use super::followed::Followed;
use super::page::{Classes, Page, label};
use crate::model::endpoint::{Slice, Slices};
use crate::model::name::IpFamily;
use crate::model::world::World;
use crate::reconcile::{Durations, Progress, Served};

/// Time from a change of a Pod or Service until the kernel has it, as kube-proxy measures it: by the annotation
/// `endpoints.kubernetes.io/last-change-trigger-time` of each EndpointSlice that changed.
#[derive(Debug)]
pub struct Programming {
    start_unix_ms: u64,
    /// In the order of [`IpFamily::ALL`]. The last class has no upper bound.
    families: [Observed; 2],
    noticing: Durations,
}

#[derive(Clone, Debug)]
struct Observed {
    counts: Vec<u64>,
    sum: f64,
}

impl Programming {
    pub fn since(start_unix_ms: u64) -> Self {
        let none = Observed { counts: vec![0; bounds().count() + 1], sum: 0.0 };
        Self { start_unix_ms, families: [none.clone(), none], noticing: Durations::default() }
    }

    /// Counts the slices that changed. A removed slice names the time of an older change, and is left out.
    pub fn observe(&mut self, before: &World, now: &Served) {
        for item in before.slices.diff(&now.world.slices) {
            let (old, new): (Option<&Slices>, &Slices) = match item {
                DiffItem::Add(_, new) => (None, new),
                DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), new),
                DiffItem::Remove(..) => continue,
            };
            let is_known = |slice: &Slice| {
                let mut known = old.into_iter().flat_map(|slices| slices.iter());
                known.any(|old| old.key == slice.key && old.triggered.0 == slice.triggered.0)
            };
            // kube-proxy does not see slices of headless Services.
            for slice in new.iter().filter(|slice| !slice.is_headless && !is_known(slice)) {
                let triggered = slice.triggered.0.filter(|&at| at > self.start_unix_ms);
                if let Some(triggered) = triggered {
                    let took = now.in_force_unix_ms.saturating_sub(triggered);
                    self.add(slice.family, took as f64 / 1e3);
                    let noticed = now.noticed_unix_ms.saturating_sub(triggered);
                    self.noticing.add(Duration::from_millis(noticed));
                }
            }
        }
    }

    fn add(&mut self, family: IpFamily, seconds: f64) {
        let observed = &mut self.families[usize::from(family == IpFamily::V6)];
        let class = bounds().position(|bound| seconds <= bound).unwrap_or(observed.counts.len() - 1);
        observed.counts[class] += 1;
        observed.sum += seconds;
    }

    pub fn by_family(&self) -> [Classes; 2] {
        self.families.each_ref().map(|observed| Classes {
            sum: observed.sum,
            count: observed.counts.iter().sum(),
            classes: bounds().chain([f64::INFINITY]).zip(observed.counts.iter().copied()).collect(),
        })
    }

    pub const fn noticing(&self) -> Durations {
        self.noticing
    }
}

/// Upper bounds in seconds, as kube-proxy has them: 0, 0.25, 0.5, then 1 to 59 by 1, to 115 by 5, to 300 by 30.
fn bounds() -> impl Iterator<Item = f64> {
    let whole = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.0, 0.25, 0.5].into_iter().chain(whole.map(f64::from))
}

/// The phases of the time that a change takes.
#[derive(Debug)]
pub struct Phases {
    pub progress: watch::Receiver<Progress>,
    pub followed: Followed,
}

impl Part for Phases {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let progress = self.progress.borrow().clone();
        let phases =
            [("notice", self.followed.noticing()), ("plan", progress.planning), ("write", progress.writing)];
        page.histograms(
            "svc_programming_phase_duration_seconds",
            "Seconds of the phases of a change. notice: from the change of a Pod or Service until the daemon took it, the \
             lag of the watch; plan: deciding what to write; write: writing to the kernel's tables.",
            phases.map(|(phase, durations)| (label("phase", phase), Classes::from(&durations))),
        )
    }
}
