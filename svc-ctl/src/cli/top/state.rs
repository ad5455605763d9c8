//! Two readings, and the rates between them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::args::Sort;

/// Counters of a service port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub flows: u64,
    pub packets: u64,
    pub octets: u64,
}

/// Runs of a program and their time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Runs {
    pub count: u64,
    pub time: Duration,
}

/// All counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Since any moment.
    pub at: Duration,
    /// By the name of the service port, or `#id`.
    pub services: BTreeMap<String, Counts>,
    /// Forward records by service port. `None`: the flow table has too many entries to count them at each reading.
    pub live: Option<BTreeMap<String, u64>>,
    pub counters: BTreeMap<String, u64>,
    pub programs: BTreeMap<String, Runs>,
    /// The daemon has not named the Services.
    pub is_unnamed: bool,
}

/// The two last readings.
#[derive(Clone, Debug)]
pub struct State {
    pub sort: Sort,
    before: Option<Reading>,
    now: Reading,
}

/// A line of a Service: rates a second.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceLine {
    pub name: String,
    pub new: f64,
    pub live: Option<u64>,
    pub packets: f64,
    pub octets: f64,
}

/// A line of a program. The load is that of one CPU, from 0 to 1 and more.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramLine {
    pub name: String,
    pub runs: f64,
    /// Nanoseconds a run.
    pub cost: f64,
    pub load: f64,
}

impl State {
    pub fn new(sort: Sort, first: Reading) -> Self {
        Self { sort, before: None, now: first }
    }

    /// Takes a newer reading.
    pub fn take(&mut self, reading: Reading) {
        self.before = Some(std::mem::replace(&mut self.now, reading));
    }

    /// Seconds between the readings.
    pub fn seconds(&self) -> f64 {
        let before = self.before.as_ref().map_or(self.now.at, |before| before.at);
        let seconds = self.now.at.saturating_sub(before).as_secs_f64();
        if seconds == 0.0 { 1.0 } else { seconds }
    }

    /// A value of the earlier reading. Without one no rate is known: the value is that of `now`.
    fn earlier<T: Copy + Default>(&self, now: T, of: impl Fn(&Reading) -> Option<&T>) -> T {
        self.before.as_ref().map_or(now, |reading| of(reading).copied().unwrap_or_default())
    }

    pub fn is_unnamed(&self) -> bool {
        self.now.is_unnamed
    }

    /// Services with traffic or live flows first, in the chosen order; names decide between equals.
    pub fn services(&self) -> Vec<ServiceLine> {
        let seconds = self.seconds();
        let line = |(name, counts): (&String, &Counts)| {
            let before = self.earlier(*counts, |reading| reading.services.get(name));
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            ServiceLine {
                name: name.clone(),
                new: rate(counts.flows, before.flows),
                live: self.now.live.as_ref().map(|live| live.get(name).copied().unwrap_or_default()),
                packets: rate(counts.packets, before.packets),
                octets: rate(counts.octets, before.octets),
            }
        };
        let mut lines: Vec<ServiceLine> = self.now.services.iter().map(line).collect();
        let key = |line: &ServiceLine| match self.sort {
            Sort::New => line.new,
            Sort::Live => line.live.unwrap_or_default() as f64,
            Sort::Octets => line.octets,
            Sort::Name => 0.0,
        };
        lines.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
        lines
    }

    /// Refusals and drops: rate a second and sum, the most frequent first.
    pub fn drops(&self) -> Vec<(String, f64, u64)> {
        let is_drop = |name: &str| {
            ["drop_", "reject_", "socket_refused", "flow_table_full"]
                .iter()
                .any(|start| name.starts_with(start))
        };
        let rate = |name: &String, now: u64| {
            let before = self.earlier(now, |reading| reading.counters.get(name));
            now.saturating_sub(before) as f64 / self.seconds()
        };
        let counters = self.now.counters.iter().filter(|(name, sum)| is_drop(name) && **sum != 0);
        let mut lines: Vec<_> = counters.map(|(name, sum)| (name.clone(), rate(name, *sum), *sum)).collect();
        lines.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.cmp(&a.2)).then_with(|| a.0.cmp(&b.0)));
        lines
    }

    /// Programs that ran, by their load.
    pub fn programs(&self) -> Vec<ProgramLine> {
        let seconds = self.seconds();
        let line = |(name, now): (&String, &Runs)| {
            let before = self.earlier(*now, |reading| reading.programs.get(name));
            let (count, time) =
                (now.count.saturating_sub(before.count), now.time.saturating_sub(before.time));
            let cost = if count == 0 { 0.0 } else { time.as_nanos() as f64 / count as f64 };
            ProgramLine {
                name: name.clone(),
                runs: count as f64 / seconds,
                cost,
                load: time.as_secs_f64() / seconds,
            }
        };
        let mut lines: Vec<ProgramLine> = self.now.programs.iter().map(line).collect();
        lines.sort_by(|a, b| b.load.total_cmp(&a.load).then_with(|| a.name.cmp(&b.name)));
        lines
    }
}
