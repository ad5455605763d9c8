//! `cargo xtask run`: servers, traffic, and the servers that answer while replicas come and go. It runs on the examples
//! in a simulated network, or on a real cluster.

mod args;
mod environment;
mod interrupt;
mod picture;
mod plots;
mod screen;
mod summary;
mod traffic;
mod trouble;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use args::Args;
use environment::{Environment, Examples, Kubernetes, Step};
use plots::Plots;
use screen::Screen;
use summary::{Phase, Summary};
use traffic::Traffic;
use trouble::Trouble;

use crate::{cleanup, ownership, run_name, wait};

/// Interval between two drawings of the chart.
const TICK: Duration = Duration::from_millis(250);

pub fn main(args: &Args) -> Result<()> {
    cleanup::sweep();
    let shown = if args.cluster { play::<Kubernetes>(args) } else { play::<Examples>(args) };
    let scratch = run_name::scratch_dir();
    let written =
        [Some(scratch.as_path()), args.report.as_deref(), args.picture.as_deref(), args.plots.as_deref()];
    let written: Vec<&Path> = written.into_iter().flatten().collect();
    ownership::hand_back(&written)?;
    let summary = shown?;
    ensure!(summary.failures == 0, "{} of {} requests failed", summary.failures, summary.requests);
    Ok(())
}

fn play<S: Environment>(args: &Args) -> Result<Summary> {
    let screen = Screen::new(S::NAME_WIDTH, args.picture.is_some());
    let environment = S::make(&screen)?;
    let traffic = Traffic::start(&environment.clients()?)?;
    let steps = u32::try_from(S::STEPS.len()).context("the number of steps")?;
    let part = Duration::from_secs(args.seconds.into()) / steps;
    let plots = args.plots.is_some().then(Plots::new);
    let mut show =
        Show { environment, traffic, screen, plots, phases: Vec::new(), troubles: Vec::new(), part };
    for step in S::STEPS {
        if !interrupt::asked() {
            show.run(step)?;
        }
    }
    let Show { mut environment, traffic, screen, plots, phases, troubles, .. } = show;
    let total = traffic.stop()?;
    let losses = troubles.iter().map(|trouble| trouble.losses(&total)).sum();
    let summary = Summary::new(&total, phases, losses);
    screen.end(&summary);
    if summary.failures > 0 {
        eprintln!("{}", environment.diagnosis());
    }
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(&summary)? + "\n")
            .with_context(|| format!("write {}", path.display()))?;
    }
    if let (Some(path), Some(picture)) = (&args.picture, screen.picture()) {
        std::fs::write(path, picture).with_context(|| format!("write {}", path.display()))?;
    }
    if let (Some(path), Some(plots)) = (&args.plots, plots) {
        std::fs::write(path, plots.svg()?).with_context(|| format!("write {}", path.display()))?;
    }
    if args.keep && !interrupt::asked() {
        println!(
            "\nIt all stays up until Ctrl-C. Try in another terminal, as root:\n\n{}",
            environment.by_hand()?
        );
        interrupt::wait();
    }
    Ok(summary)
}

/// State while the clients send.
struct Show<S> {
    // Dropped in this order: clients before their network.
    traffic: Traffic,
    environment: S,
    screen: Screen,
    /// Set if plots were requested.
    plots: Option<Plots>,
    phases: Vec<Phase>,
    /// The times in which requests fail because of servers that have just died.
    troubles: Vec<Trouble>,
    part: Duration,
}

impl<S: Environment> Show<S> {
    /// Runs one part of the show. By its end the last tick must show the expected servers.
    fn run(&mut self, step: &Step<S>) -> Result<()> {
        let name = step.name;
        self.screen.say(name);
        let start = self.traffic.look()?;
        let mut trouble = step.has_losses.then(Trouble::begin).transpose()?;
        (step.begin)(&mut self.environment, &self.screen)?;
        let began = Instant::now();
        let (mut before, mut tick_began, mut wrong) = (start.clone(), began, None);
        let waited =
            wait::until_true(&format!("traffic follows: {name}"), self.part + S::CHANGE_LIMIT, || {
                if tick_began.elapsed() < TICK {
                    return Ok(interrupt::asked());
                }
                let now = self.traffic.look()?;
                let tick = now.since(&before);
                self.screen.chart(&tick, &now.since(&start), tick_began.elapsed());
                (before, tick_began) = (now, Instant::now());
                if let Some(plots) = self.plots.as_mut().filter(|plots| plots.is_due()) {
                    plots.add(self.environment.metrics_page()?);
                }
                let answered: BTreeSet<&str> = tick.by_server.keys().map(String::as_str).collect();
                wrong = self.environment.wrong(&answered)?;
                let is_quiet = match &mut trouble {
                    Some(trouble) => trouble.is_over(tick.failed > 0 || wrong.is_some())?,
                    None => true,
                };
                let is_done = began.elapsed() >= self.part && wrong.is_none() && is_quiet;
                Ok(is_done || interrupt::asked())
            });
        if let Err(error) = waited {
            return Err(error.context(format!(
                "{}\n{}",
                wrong.unwrap_or_default(),
                self.environment.diagnosis()
            )));
        }
        let lost = trouble.as_ref().map_or(0, |trouble| trouble.losses(&before));
        if let Some(trouble) = trouble {
            self.screen.note(&format!("noticed after {:.1} s", trouble.time().as_secs_f64()));
            self.troubles.push(trouble);
        }
        let total = before.since(&start);
        self.screen.total(&total, lost);
        self.phases.push(Phase::new(name, &total));
        Ok(())
    }
}
