//! `cargo xtask run`: servers, traffic, and who answered, while replicas come and go. It runs on the examples in a
//! simulated network, or on a real cluster.

mod args;
mod environment;
mod interrupt;
mod picture;
mod screen;
mod summary;
mod traffic;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use args::Args;
use environment::{Environment, Examples, Kubernetes, Step};
use screen::Screen;
use summary::{Phase, Summary};
use traffic::Traffic;

use crate::{cleanup, ownership, run_name, wait};

/// How often the chart is drawn.
const TICK: Duration = Duration::from_millis(250);

pub fn main(args: &Args) -> Result<()> {
    cleanup::sweep();
    let shown = if args.cluster { play::<Kubernetes>(args) } else { play::<Examples>(args) };
    let scratch = run_name::scratch_dir();
    let written = [Some(scratch.as_path()), args.report.as_deref(), args.picture.as_deref()];
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
    let mut show = Show { environment, traffic, screen, phases: Vec::new(), losses: 0, part };
    for step in S::STEPS {
        if !interrupt::asked() {
            show.run(step)?;
        }
    }
    let Show { mut environment, traffic, screen, phases, losses, .. } = show;
    let summary = Summary::new(&traffic.stop()?, phases, losses);
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
    phases: Vec<Phase>,
    /// Requests that failed because of servers that had just died.
    losses: u64,
    part: Duration,
}

impl<S: Environment> Show<S> {
    /// Runs one part of the show. By its end the last tick must show the expected servers.
    fn run(&mut self, step: &Step<S>) -> Result<()> {
        let name = step.name;
        self.screen.say(name);
        let start = self.traffic.look()?;
        (step.begin)(&mut self.environment, &self.screen)?;
        let began = Instant::now();
        let (mut before, mut tick_began, mut wrong) = (start.clone(), began, None);
        // The number of failures until no client dialled a dead node any more.
        let mut losses = None;
        let waited =
            wait::until_true(&format!("traffic follows: {name}"), self.part + S::CHANGE_LIMIT, || {
                if tick_began.elapsed() < TICK {
                    return Ok(interrupt::asked());
                }
                let now = self.traffic.look()?;
                let tick = now.since(&before);
                self.screen.chart(&tick, &now.since(&start), tick_began.elapsed());
                let answered: BTreeSet<&str> = tick.by_server.keys().map(String::as_str).collect();
                if step.has_losses
                    && tick.failed == 0
                    && losses.is_none()
                    && self.environment.wrong(&answered)?.is_none()
                {
                    losses = Some((now.since(&start).failed, began.elapsed()));
                }
                (before, tick_began) = (now, Instant::now());
                if began.elapsed() >= self.part {
                    wrong = self.environment.wrong(&answered)?;
                    return Ok(wrong.is_none() || interrupt::asked());
                }
                Ok(interrupt::asked())
            });
        if let Err(error) = waited {
            return Err(error.context(format!(
                "{}\n{}",
                wrong.unwrap_or_default(),
                self.environment.diagnosis()
            )));
        }
        if let Some((failed, time)) = losses {
            self.losses += failed;
            self.screen
                .say(&format!("noticed after {:.1} s; {failed} requests were lost", time.as_secs_f64()));
        }
        let total = before.since(&start);
        self.screen.total(name, &total);
        self.phases.push(Phase::new(name, &total));
        Ok(())
    }
}
