//! What a person sees: a bar per backend that moves while somebody answers, or plain lines where there is no terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::summary::Summary;
use crate::agent::Report;

/// Answers per second at which a bar is full.
const FULL: u64 = 200;

/// The terminal, or whatever stdout is.
pub(super) struct Screen {
    /// None without a terminal.
    bars: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self { bars: terminal.then(|| (MultiProgress::new(), BTreeMap::new())) }
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        match &self.bars {
            // A terminal that went away is no reason to end the show.
            Some((bars, _)) => _ = bars.println(format!("== {line}")),
            None => println!("== {line}"),
        }
    }

    /// Who answered how often lately (`tick`) and since the act began (`act`).
    pub(super) fn chart(&mut self, tick: &Report, act: &Report, time: Duration) {
        let Some((all, bars)) = &mut self.bars else { return };
        for name in act.by_server.keys() {
            if !bars.contains_key(name) {
                let place = bars.range(name.clone()..).next().map(|(_, next)| next.clone());
                let bar = match place {
                    Some(next) => all.insert_before(&next, ProgressBar::new(FULL)),
                    None => all.add(ProgressBar::new(FULL)),
                };
                bar.set_style(style());
                bar.set_prefix(name.clone());
                bars.insert(name.clone(), bar);
            }
        }
        for (name, bar) in bars {
            let count = |report: &Report| report.by_server.get(name).copied().unwrap_or(0);
            let per_second = count(tick) * 1000 / u64::try_from(time.as_millis()).unwrap_or(1000).max(1);
            bar.set_position(per_second.min(FULL));
            bar.set_message(format!("{per_second:>4}/s {:>7}", count(act)));
        }
    }

    /// What an act came to.
    pub(super) fn total(&self, name: &str, total: &Report) {
        let servers = total.by_server.iter().map(|(name, count)| format!("{name} {count}"));
        let servers = servers.collect::<Vec<_>>().join(", ");
        self.say(&format!(
            "{name}: {} requests, {} failures; {servers}",
            total.ok + total.failed,
            total.failed
        ));
    }

    pub(super) fn end(self, summary: &Summary) {
        if let Some((bars, _)) = &self.bars {
            // Only what has been said stays on the terminal.
            _ = bars.clear();
        }
        println!("\n{} requests, {} failures", summary.requests, summary.failures);
        let most = summary.backends.values().max().copied().unwrap_or(1).max(1);
        for (name, count) in &summary.backends {
            let length = usize::try_from(count * 40 / most).unwrap_or_default();
            println!("{name:>8} {count:>7} {}", "█".repeat(length));
        }
        if let Some(failure) = &summary.first_failure {
            println!("the first failure: {failure}");
        }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix:>8} {bar:50.cyan/black} {msg}");
    // The template is constant; a wrong one would show in the first run.
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("██ ")
}
