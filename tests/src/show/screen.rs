//! The terminal: a bar per backend that moves with its replies, or plain lines without a terminal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::picture::Picture;
use super::summary::Summary;
use crate::agent::Report;

/// Replies per second of a full bar.
const FULL: u64 = 200;

/// Columns of a full bar. With the longest name and the numbers a line has 77, and fits a terminal of 80.
const BAR: usize = 40;

/// A bar is removed after this many ticks without a reply.
const SILENCE: u32 = 8;

/// The terminal, or whatever stdout is.
pub(super) struct Screen {
    /// `None` without a terminal.
    bars: Option<(MultiProgress, BTreeMap<String, Bar>)>,
    /// Characters of a name.
    width: usize,
    /// Set if a picture was requested.
    picture: Option<RefCell<Picture>>,
}

struct Bar {
    bar: ProgressBar,
    /// Ticks since the last reply.
    silence: u32,
}

impl Screen {
    pub(super) fn new(width: usize, has_picture: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let picture = has_picture.then(|| RefCell::new(Picture::new(width, FULL)));
        Self { bars: terminal.then(|| (MultiProgress::new(), BTreeMap::new())), width, picture }
    }

    /// The show so far, as SVG.
    pub(super) fn picture(&self) -> Option<String> {
        Some(self.picture.as_ref()?.borrow().svg())
    }

    /// Announces the next part.
    pub(super) fn say(&self, line: &str) {
        self.line(&format!("== {line}"));
    }

    /// Something about the current part.
    pub(super) fn note(&self, line: &str) {
        self.line(&format!("   {line}"));
    }

    /// A command and its output.
    pub(super) fn typed(&self, command: &str, answer: &str) {
        self.line(&format!("$ {command}"));
        answer.lines().for_each(|line| self.line(line));
    }

    /// A permanent line.
    fn line(&self, line: &str) {
        if let Some(picture) = &self.picture {
            picture.borrow_mut().line(line);
        }
        match &self.bars {
            // The show goes on without the terminal.
            Some((bars, _)) => _ = bars.println(line),
            None => println!("{line}"),
        }
    }

    /// Replies by server recently (`tick`) and since the phase began (`phase`).
    pub(super) fn chart(&mut self, tick: &Report, phase: &Report, time: Duration) {
        let of = |report: &Report, name: &str| report.by_server.get(name).copied().unwrap_or(0);
        let per_second =
            |name: &str| of(tick, name) * 1000 / u64::try_from(time.as_millis()).unwrap_or(1000).max(1);
        if let Some(picture) = &self.picture {
            let bars = tick.by_server.keys().map(|name| (name.clone(), per_second(name), of(phase, name)));
            picture.borrow_mut().tick(bars.collect());
        }
        let Some((all, bars)) = &mut self.bars else { return };
        for name in tick.by_server.keys() {
            if !bars.contains_key(name) {
                let bar = match bars.range(name.clone()..).next() {
                    Some((_, next)) => all.insert_before(&next.bar, ProgressBar::new(FULL)),
                    None => all.add(ProgressBar::new(FULL)),
                };
                bar.set_style(style(self.width));
                bar.set_prefix(name.clone());
                bars.insert(name.clone(), Bar { bar, silence: 0 });
            }
        }
        bars.retain(|name, Bar { bar, silence }| {
            let per_second = per_second(name);
            bar.set_position(per_second.min(FULL));
            bar.set_message(format!("{per_second:>4}/s {:>7}", of(phase, name)));
            *silence = if per_second == 0 { *silence + 1 } else { 0 };
            let stays = *silence < SILENCE;
            if !stays {
                all.remove(bar);
            }
            stays
        });
    }

    /// The total of a part, below its name. `lost`: requests to servers that had just died, which are no failures of svc.
    pub(super) fn total(&self, total: &Report, lost: u64) {
        let servers = total.by_server.iter().map(|(name, count)| format!("{name} {count}"));
        let servers = servers.collect::<Vec<_>>().join(", ");
        let failures = total.failed.saturating_sub(lost);
        self.note(&format!("{} requests, {failures} failures, {lost} lost", total.ok + total.failed));
        self.note(&servers);
    }

    pub(super) fn end(&self, summary: &Summary) {
        if let Some((bars, _)) = &self.bars {
            // Leaves only printed lines on the terminal.
            _ = bars.clear();
        }
        let Summary { requests, failures, losses, .. } = summary;
        println!("\n{requests} requests, {failures} failures, {losses} lost with servers that were killed");
        let most = summary.backends.values().max().copied().unwrap_or(1).max(1);
        for (name, count) in &summary.backends {
            let length = usize::try_from(count * BAR as u64 / most).unwrap_or_default();
            println!("{name:>width$} {count:>7} {}", "█".repeat(length), width = self.width);
        }
        if let Some(failure) = summary.first_failure.as_ref().filter(|_| summary.failures > 0) {
            println!("the first failure: {failure}");
        }
    }
}

fn style(width: usize) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(&format!("{{prefix:>{width}}} {{bar:{BAR}.cyan/black}} {{msg}}"));
    // The template is constant except for the width; an error in it would show in the first run.
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("██ ")
}
