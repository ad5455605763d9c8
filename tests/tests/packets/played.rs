//! Plays the cases of the tier `golden` on the kernel: the same files go through the plan into the kernel's tables,
//! edit by edit. The results for packets, flows and load balancers must agree with the sections. Expectations are read
//! only from the sections' text.

#[path = "../../../svc-ctl/tests/golden/case.rs"]
pub mod case;
mod client;
#[path = "../../../svc-ctl/tests/golden/daemon.rs"]
pub mod daemon;
mod health;
mod shown;
mod twin;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Error, Result, ensure};
use libtest_mimic::{Failed, Trial};
use svc_ctl::dataplane::store::MapStore as _;
use svc_ctl::plan::render::render;
use svc_ctl::reconcile::InForce;
use svc_ctl::sweeper::remove_stale;
use svc_tests::model::world::Tuple;
use svc_tests::packet::lab::Lab;
use svc_tests::packet::trial::{Shared, with_lab};

use crate::ask::{self, Origin, PacketOutcome};
use case::{Case, Step};
use client::{Clients, Destination};
use daemon::Daemon;
use health::Health;
use shown::{Serving, TablesSection};

/// Flows to begin for every expected backend of a frontend: by chance all of them miss one backend in one of 10^14
/// cases.
const FLOWS_PER_BACKEND: usize = 32;

/// One trial for each sentence of a case: the steps below it, after all steps above it.
pub fn trials(lab: &Shared) -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../svc-ctl/tests/golden");
    let entries = fs::read_dir(folder).expect("the cases' folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a case").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "svctest"));
    paths.sort();
    let health = Arc::default();
    paths.iter().flat_map(|path| trials_of(path, lab, &health)).collect()
}

/// Health servers, started by the first trial.
type SharedHealth = Arc<Mutex<Option<Health>>>;

/// Trials of the case, and of its IPv6 counterpart.
fn trials_of(path: &Path, lab: &Shared, health: &SharedHealth) -> Vec<Trial> {
    let text = fs::read_to_string(path).expect("a case can be read");
    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    let twin = twin::twin(&text);
    let twins = twin.iter().flat_map(|twin| sentences(twin, &format!("{file}, played as IPv6"), lab, health));
    sentences(&text, &format!("{file}, played"), lab, health).into_iter().chain(twins).collect()
}

fn sentences(text: &str, what: &str, lab: &Shared, health: &SharedHealth) -> Vec<Trial> {
    let case = Arc::new(Case::parse(text));
    let sentences = case.steps.chunk_by(|one, next| one.sentence == next.sentence);
    let last_steps = sentences.filter_map(|steps| steps.last());
    let trial = |last: &Step| {
        let (case, lab, health) = (Arc::clone(&case), Arc::clone(lab), Arc::clone(health));
        let line = last.line;
        Trial::test(format!("{} [{what}]", last.sentence), move || {
            let mut health = health.lock().unwrap_or_else(PoisonError::into_inner);
            let play = |lab: &mut Lab| {
                let health = match &mut *health {
                    Some(health) => health,
                    none => none.insert(Health::start()?),
                };
                play(&case, line, lab, health)
            };
            with_lab(&lab, play).map_err(|err| Failed::from(format!("{err:#}")))
        })
    };
    last_steps.map(trial).collect()
}

/// Plays a case up to a line.
fn play(case: &Case, last: usize, lab: &mut Lab, health: &mut Health) -> Result<()> {
    lab.kernel.clear()?;
    lab.kernel.write_interfaces(true, true, svc_common::abi::IfaceFlags::NONE)?;
    let mut play = Play {
        case,
        lab,
        health,
        daemon: Daemon::new(),
        shown: TablesSection::default(),
        destinations: BTreeSet::new(),
        begun: Vec::new(),
        flows: 0,
    };
    play.forget()?;
    for step in case.steps.iter().take_while(|step| step.line <= last) {
        play.take(step).with_context(|| format!("line {}: {}", step.line, step.text))?;
    }
    Ok(())
}

struct Play<'a> {
    case: &'a Case,
    lab: &'a mut Lab,
    health: &'a mut Health,
    daemon: Daemon,
    /// The last tables.
    shown: TablesSection,
    /// The frontends of all tables so far.
    destinations: BTreeSet<Destination>,
    /// A flow of each kind of client to each backend of each frontend.
    begun: Vec<Flow>,
    /// Flows so far.
    flows: usize,
}

struct Flow {
    destination: Destination,
    origin: Origin,
    tuple: Tuple,
    outcome: PacketOutcome,
}

impl Play<'_> {
    fn take(&mut self, step: &Step) -> Result<()> {
        let case = self.case;
        let section = |name: &str| case.section(name).map_err(Error::msg);
        match step.text.split_whitespace().collect::<Vec<_>>()[..] {
            ["tables", "==", name] => self.tables(section(name)?),
            ["serving", "==", name] => self.serving(&Serving::read(section(name)?)?),
            ["health", "==", name] => self.health.check(section(name)?),
            ["rejected", "==", name] => {
                let rejected = self.daemon.rejected();
                ensure!(rejected.trim() == section(name)?.trim(), "rejected is\n{rejected}");
                Ok(())
            }
            ["writes", "==", number] => {
                ensure!(self.daemon.writes.to_string() == number, "{} writes", self.daemon.writes);
                Ok(())
            }
            ref words => self.edit(words),
        }
    }

    /// The daemon takes a step, and ends flows that may not stay.
    fn edit(&mut self, words: &[&str]) -> Result<()> {
        let kernel = &mut self.lab.kernel;
        self.daemon.take(words, self.case, &mut kernel.store).map_err(Error::msg)?;
        let in_force = self.daemon.in_force();
        remove_stale(&kernel.pins, &in_force)?;
        self.health.plan(self.daemon.health_ports());
        Ok(())
    }

    /// The kernel has these tables. Existing connections go on. First packets get the results that the tables show,
    /// also at earlier frontends.
    fn tables(&mut self, section: &str) -> Result<()> {
        let held = render(&self.lab.kernel.store.dump()?);
        ensure!(sorted(&held) == sorted(section), "the kernel holds\n{held}");
        for flow in self.begun.iter().filter(|flow| flow.destination.proto != "UDP") {
            let outcome = ask::later(&self.lab.kernel, flow.origin, flow.tuple)?;
            ensure!(
                outcome == flow.outcome,
                "a connection to {} that had reached {}: {outcome}",
                flow.destination,
                flow.outcome
            );
        }
        self.forget()?;
        self.shown = TablesSection::read(section)?;
        self.destinations.extend(self.shown.destinations());
        for destination in self.destinations.clone() {
            for clients in &client::ALL {
                self.dial(destination, clients).with_context(|| format!("{clients} at {destination}"))?;
            }
        }
        Ok(())
    }

    /// Clients of a kind get exactly the results that the tables show.
    fn dial(&mut self, destination: Destination, clients: &Clients) -> Result<()> {
        let wanted =
            self.shown.outcomes(destination, clients.addr(0, destination.to.is_ipv4()), clients.is_pod);
        let is_chance = wanted.iter().any(|outcome| matches!(outcome, PacketOutcome::Reaches { .. }));
        let count = if is_chance { FLOWS_PER_BACKEND * wanted.len() } else { 1 };
        let mut flows = self.begin(destination, clients, count)?;
        let met: BTreeSet<PacketOutcome> = flows.iter().map(|flow| flow.outcome).collect();
        let words = |outcomes: &BTreeSet<PacketOutcome>| {
            outcomes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        ensure!(met == wanted, "want {}, met {}", words(&wanted), words(&met));
        if let (Some(seconds), true) = (self.shown.affinity(destination), is_chance) {
            let outcomes: Vec<PacketOutcome> = flows.iter().map(|flow| flow.outcome).collect();
            self.come_back(destination, clients, &outcomes, seconds)?;
        }
        flows.sort_by_key(|flow| flow.outcome);
        flows.dedup_by_key(|flow| flow.outcome);
        if is_chance {
            self.begun.extend(flows);
        }
        Ok(())
    }

    /// That many clients of a kind begin a flow each.
    fn begin(&mut self, destination: Destination, clients: &Clients, count: usize) -> Result<Vec<Flow>> {
        let flow = |number| {
            self.flows += 1;
            // An unused port.
            let port = 1024 + (self.flows % 64_000) as u16;
            let (addr, origin) = (clients.addr(number, destination.to.is_ipv4()), clients.origin(number));
            let tuple = destination.dialled_from((addr, port).into());
            let outcome = ask::first(&self.lab.kernel, origin, tuple)?;
            Ok(Flow { destination, origin, tuple, outcome })
        };
        (0..count).map(flow).collect()
    }

    /// Clients that return a minute before their session affinity expires get the same backend; a minute after it
    /// expires they may get any.
    fn come_back(
        &mut self,
        destination: Destination,
        clients: &Clients,
        met: &[PacketOutcome],
        seconds: u32,
    ) -> Result<()> {
        self.lab.age_affinity(seconds.saturating_sub(60))?;
        let again: Vec<PacketOutcome> =
            self.begin(destination, clients, met.len())?.iter().map(|flow| flow.outcome).collect();
        let moved = met.iter().zip(&again).find(|(first, second)| first != second);
        ensure!(moved.is_none(), "before {seconds} s some have moved: {moved:?}");
        self.lab.age_affinity(seconds + 60)?;
        let later: Vec<PacketOutcome> =
            self.begin(destination, clients, met.len())?.iter().map(|flow| flow.outcome).collect();
        let is_one = met.iter().all(|outcome| *outcome == met[0]);
        ensure!(is_one || later != met, "after {seconds} s no client has moved");
        Ok(())
    }

    /// Datagram flows stay if and only if they may.
    fn serving(&mut self, serving: &Serving) -> Result<()> {
        for flow in self.begun.iter_mut().filter(|flow| flow.destination.proto == "UDP") {
            let PacketOutcome::Reaches { backend, .. } = flow.outcome else { continue };
            let outcome = ask::later(&self.lab.kernel, flow.origin, flow.tuple)?;
            let stays = serving.lets_stay(flow.destination, backend);
            ensure!(
                (outcome == flow.outcome) == stays,
                "datagrams to {} that had reached {backend} and {} stay: {outcome}",
                flow.destination,
                if stays { "may" } else { "may not" }
            );
            flow.outcome = outcome;
        }
        Ok(())
    }

    /// Removes all flows and session affinity entries.
    fn forget(&mut self) -> Result<()> {
        self.lab.kernel.clear_flows()?;
        remove_stale(&self.lab.kernel.pins, &InForce::default())?;
        self.begun.clear();
        Ok(())
    }
}

/// The counterpart's lines may be in another order, and the contents of its Maglev tables follow from its own
/// addresses.
fn sorted(text: &str) -> BTreeSet<&str> {
    let without_digest = |line| str::split_once(line, " #").map_or(line, |(line, _)| line);
    text.trim().lines().map(without_digest).collect()
}
