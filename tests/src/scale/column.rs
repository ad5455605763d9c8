//! One column: starts a daemon with that many Services, changes endpoints, and measures the idle daemon.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::args::Column;
use super::changes::{ApiServer, Changes};
use super::figures::Figures;
use super::in_force;
use super::node::{Daemon, TestNode};
use super::objects::{self, Objects};
use super::population::Population;
use super::process::{OtherProcesses, Process};
use super::real_api::RealApi;
use super::scrape::{self, PhaseTotal};
use super::store::{NODES, SERVICES, SLICES, Store};
use super::stub_api::StubApi;

const SINGLE_CHANGES: usize = 200;
const PHASED_CHANGES: usize = 50;
const BURST: usize = 1_000;
const REAL_SERVICES: u32 = 10_000;
const SETTLE: Duration = Duration::from_secs(3);
/// Log message once the programs are attached and serve the last known state.
const ATTACHED: &str = "attached the programs";
const ATTACH_LIMIT: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(35);

/// Measures svc-ctl against the stub.
pub fn measure(column: Column, figures: &mut Figures) -> Result<()> {
    let name = column.to_string();
    eprintln!("{name}: making the objects");
    let (mut population, objects) = (Population::new(column), Objects::new());
    let node = TestNode::new(&format!("scale-{name}"))?;
    let api = StubApi::start(&node.netns, store(&population, &objects))?;

    let others = OtherProcesses::begin()?;
    let mut daemon = node.start_svc(&["--master".to_owned(), api.url()])?;
    let in_force = in_force::wait(&mut daemon, node.status_path(), node.pins(), &population)?;
    let listed = api.listed(&[SERVICES, SLICES, NODES]).context("svc-ctl has not listed everything")?;
    figures.seconds("cp.sync", &name, Some(in_force.at - daemon.started));
    figures.seconds("cp.lists", &name, Some(in_force.at.saturating_duration_since(listed)));
    let written = in_force.served.map(|served| served.saturating_duration_since(listed));
    figures.seconds("cp.written", &name, written);
    figures.seconds("cp.attached", &name, Some(attached(&mut daemon)?));
    let mut run = Run { name: &name, node: &node, process: Process(daemon.id()), figures };
    run.measure_changes(&api, &mut population, &objects)?;
    run.measure_rest(&population)?;
    run.measure_phases(&api, &mut population, &objects)?;
    let used = run.process.cpu()?;
    figures.push("cp.others_cpu", &name, Some(others.end(used)?), "%");
    figures.push("cp.events", &name, Some(api.created() as f64), "Events");
    daemon.check()?;
    drop(daemon);
    measure_restart(&name, &node, &api, &population, figures)?;
    for request in api.unknown() {
        eprintln!("{name}: the stub has no answer to {request}");
    }
    Ok(())
}

/// The time from the start until the programs are attached, or until now if they are already.
fn attached(daemon: &mut Daemon) -> Result<Duration> {
    while !daemon.has_logged(ATTACHED) {
        daemon.check()?;
        ensure!(
            daemon.started.elapsed() < ATTACH_LIMIT,
            "{ATTACHED:?} is not in the log after {ATTACH_LIMIT:?}"
        );
        thread::park_timeout(Duration::from_millis(1));
    }
    Ok(daemon.started.elapsed())
}

/// Kills the daemon and starts it again with the tables that it left.
fn measure_restart(
    name: &str,
    node: &TestNode,
    api: &StubApi,
    population: &Population,
    figures: &mut Figures,
) -> Result<()> {
    std::fs::remove_file(node.status_path())?;
    let mut daemon = node.start_svc(&["--master".to_owned(), api.url()])?;
    figures.seconds("cp.adopted", name, Some(attached(&mut daemon)?));
    let in_force = in_force::wait(&mut daemon, node.status_path(), node.pins(), population)?;
    figures.seconds("cp.restart", name, Some(in_force.at - daemon.started));
    Ok(())
}

/// Measures svc-ctl with the real API server. The time at which its lists were sent is unknown.
pub fn measure_real(figures: &mut Figures) -> Result<()> {
    let column = Column::plain(REAL_SERVICES);
    let name = format!("real{column}");
    eprintln!("{name}: making the objects");
    let (mut population, objects) = (Population::new(column), Objects::new());
    let api = RealApi::start(&population, &objects)?;
    let node = TestNode::new(&format!("scale-{name}"))?;
    let interface = node.join(api.control.hub())?;
    let kubeconfig = api.control.kubeconfig("admin").display().to_string();
    let words = ["--kubeconfig", &kubeconfig, "--exclude-interface", interface].map(str::to_owned);

    let mut daemon = node.start_svc(&words)?;
    let in_force = in_force::wait(&mut daemon, node.status_path(), node.pins(), &population)?;
    figures.seconds("cp.sync", &name, Some(in_force.at - daemon.started));
    let mut run = Run { name: &name, node: &node, process: Process(daemon.id()), figures };
    run.measure_changes(&api, &mut population, &objects)?;
    run.measure_rest(&population)?;
    run.measure_phases(&api, &mut population, &objects)?;
    daemon.check()
}

/// A daemon with everything in force.
struct Run<'a> {
    name: &'a str,
    node: &'a TestNode,
    process: Process,
    figures: &'a mut Figures,
}

impl Run<'_> {
    fn measure_changes(
        &mut self,
        api: &dyn ApiServer,
        population: &mut Population,
        objects: &Objects,
    ) -> Result<()> {
        let (process, pins, name) = (self.process, self.node.pins(), self.name);
        process.await_rest(SETTLE)?;
        let (served, unserved) = in_force::split_served(pins, population)?;
        eprintln!("{name}: {} Services are served, {} are not", served.len(), unserved.len());
        let mut changes = Changes { api, pins, population, objects, served: &served, process };
        let singles = changes.singles(SINGLE_CHANGES)?;
        let burst = changes.burst(BURST)?;
        self.figures.milliseconds("cp.change_p50", name, singles.percentile(50));
        self.figures.milliseconds("cp.change_p99", name, singles.percentile(99));
        self.figures.milliseconds("cp.cpu_per_change", name, singles.cpu_per_change);
        self.figures.seconds("cp.burst", name, burst);
        Ok(())
    }

    /// Measures the idle daemon, and checks that all Services are still served after the changes.
    fn measure_rest(&mut self, population: &Population) -> Result<()> {
        let (process, pins, name) = (self.process, self.node.pins(), self.name);
        pause(SETTLE);
        process.await_rest(SETTLE)?;
        let before = process.cpu()?;
        pause(IDLE);
        let idle = (process.cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();
        let (rss, peak) = process.memory()?;
        let (_, unserved) = in_force::split_served(pins, population)?;
        self.figures.push("cp.idle_cpu", name, Some(100.0 * idle), "%");
        self.figures.push("cp.rss", name, Some(rss), "MB");
        self.figures.push("cp.rss_peak", name, Some(peak), "MB");
        self.figures.push("cp.kernel_memory", name, Some(process.map_memory(pins)?), "MB");
        self.figures.push("cp.unserved", name, Some(unserved.len() as f64), "Services");
        // The page takes memory, so the memory is measured before.
        let served = population.services().filter(|service| !population.is_refused(*service)).count();
        let (longest, octets) = scrape::longest(&self.node.netns, served)?;
        self.figures.milliseconds("cp.scrape", name, Some(longest));
        self.figures.push("cp.page", name, Some(octets as f64 / 1e6), "MB");
        Ok(())
    }

    /// Time to plan and write a change, according to the daemon's metrics.
    fn measure_phases(
        &mut self,
        api: &dyn ApiServer,
        population: &mut Population,
        objects: &Objects,
    ) -> Result<()> {
        let (process, pins, netns) = (self.process, self.node.pins(), &self.node.netns);
        let (served, _) = in_force::split_served(pins, population)?;
        let before = PhaseTotal::plan_and_write(netns)?;
        Changes { api, pins, population, objects, served: &served, process }.singles(PHASED_CHANGES)?;
        let after = PhaseTotal::plan_and_write(netns)?;
        for ((kind, before), after) in ["cp.plan", "cp.write"].into_iter().zip(before).zip(after) {
            self.figures.milliseconds(kind, self.name, after.mean_since(before));
        }
        Ok(())
    }
}

/// All objects of the API server at the start.
pub fn store(population: &Population, objects: &Objects) -> Store {
    let services = population.services().map(|nth| objects.service(population, nth)).collect();
    let mut slices: Vec<_> = population.services().map(|nth| objects.slice4(population, nth)).collect();
    if population.is_dual() {
        slices.extend(population.services().map(|nth| objects.slice6(population, nth)));
    }
    Store::new([services, slices, vec![objects::node()], vec![objects::service_cidr()], vec![]])
}

impl ApiServer for StubApi {
    fn write_slices(&self, slices: Vec<(u32, String)>) -> Result<Instant> {
        // The IPv4 slices come first, in the order of the Services.
        Ok(self.replace(SLICES, slices.into_iter().map(|(nth, slice)| (nth as usize, slice)).collect()))
    }
}

/// Lets time pass: the column measures the daemon at rest.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
