//! Owns `cargo xtask run`: the examples brought to life, traffic, and who answered, while replicas come and go.

mod args;
mod by_hand;
mod cluster;
mod interrupt;
mod screen;
mod summary;
mod traffic;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use args::Args;
use cluster::Cluster;
use screen::Screen;
use summary::{Phase, Summary};
use traffic::Traffic;

use crate::agent::Report;
use crate::{janitor, ownership, run_name, wait};

/// How often the chart moves.
const TICK: Duration = Duration::from_millis(250);
/// A change of the manifests shows in the traffic within this time.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// The acts of the show; each has an equal part of the time.
const ACTS: u32 = 3;

pub fn main(args: &Args) -> Result<()> {
    interrupt::catch()?;
    janitor::sweep();
    let shown = show(args);
    let scratch = run_name::scratch_dir();
    let written: Vec<&Path> =
        [Some(scratch.as_path()), args.report.as_deref()].into_iter().flatten().collect();
    ownership::hand_back(&written)?;
    let summary = shown?;
    ensure!(summary.failures == 0, "{} of {} requests failed", summary.failures, summary.requests);
    Ok(())
}

fn show(args: &Args) -> Result<Summary> {
    let screen = Screen::new();
    screen.say("making two nodes, a client and the pods of examples/*.yaml");
    let mut cluster = Cluster::new()?;
    let traffic = Traffic::start(&cluster)?;
    let mut show =
        Show { traffic, screen, phases: Vec::new(), part: Duration::from_secs(args.seconds.into()) / ACTS };

    show.act("three replicas", |_| true)?;
    cluster.add_replica()?;
    show.act("a replica is added", |answered| answered.contains("web-4"))?;
    cluster.take_replica_out()?;
    show.act("a replica is removed", |answered| !answered.contains("web-1"))?;
    let summary = show.end(args, &cluster)?;
    if args.keep && !interrupt::asked() {
        by_hand::print(&mut cluster)?;
        interrupt::wait();
    }
    Ok(summary)
}

/// What goes on while the clients send.
struct Show {
    traffic: Traffic,
    screen: Screen,
    phases: Vec<Phase>,
    part: Duration,
}

/// Who answered in the last tick.
struct Answered<'a>(&'a Report);

impl Answered<'_> {
    fn contains(&self, server: &str) -> bool {
        self.0.by_server.contains_key(server)
    }
}

impl Show {
    /// Lets traffic flow for a part of the time; by its end the last tick must look as it should.
    fn act(&mut self, name: &str, follows: impl Fn(&Answered<'_>) -> bool) -> Result<()> {
        self.screen.say(name);
        let (start, began) = (self.traffic.look()?, Instant::now());
        let mut before = start.clone();
        let mut tick_began = began;
        wait::until_true(&format!("traffic follows: {name}"), self.part + CHANGE_LIMIT, || {
            if tick_began.elapsed() < TICK {
                return Ok(interrupt::asked());
            }
            let now = self.traffic.look()?;
            let tick = now.since(&before);
            self.screen.chart(&tick, &now.since(&start), tick_began.elapsed());
            (before, tick_began) = (now, Instant::now());
            Ok(interrupt::asked() || (began.elapsed() >= self.part && follows(&Answered(&tick))))
        })?;
        let total = before.since(&start);
        self.screen.total(name, &total);
        self.phases.push(Phase::new(name, &total));
        Ok(())
    }

    fn end(self, args: &Args, cluster: &Cluster) -> Result<Summary> {
        let summary = Summary::new(&self.traffic.stop()?, self.phases);
        self.screen.end(&summary);
        if summary.failures > 0 {
            eprintln!("{}", cluster.world().diagnosis());
        }
        if let Some(path) = &args.report {
            std::fs::write(path, serde_json::to_string_pretty(&summary)? + "\n")
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(summary)
    }
}
