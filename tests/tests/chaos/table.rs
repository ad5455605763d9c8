//! The result: a line for each adversary.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comfy_table::Table as Grid;
use comfy_table::presets::ASCII_MARKDOWN;
use svc_tests::agent::Report;

/// Answers and failures of all clients while one adversary was at work.
#[derive(Clone, Debug)]
pub struct Line {
    pub report: Report,
    /// The adversary cuts this by itself.
    pub cuts: Option<&'static str>,
    /// From the adversary's end to the first answer of every client.
    pub healed: Duration,
}

/// By the adversary's name.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<&'static str, Line>);

impl Table {
    pub fn insert(&mut self, name: &'static str, line: Line) {
        self.0.insert(name, line);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut grid = Grid::new();
        grid.load_preset(ASCII_MARKDOWN);
        grid.set_header(["adversary", "requests", "failed", "resets", "longest gap", "healed"]);
        for (name, Line { report, cuts, healed }) in &self.0 {
            let Report { ok, failed, resets, longest_gap, .. } = report;
            let failed = cuts.map_or_else(|| failed.to_string(), |cuts| format!("{failed} ({cuts})"));
            grid.add_row([
                (*name).to_owned(),
                (ok + report.failed).to_string(),
                failed,
                resets.to_string(),
                format!("{} ms", longest_gap.as_millis()),
                format!("{} ms", healed.as_millis()),
            ]);
        }
        write!(f, "{grid}")
    }
}
