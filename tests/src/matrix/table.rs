//! The table of combinations with their results, one block per variant, written to `target/svc/matrix.txt`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::cell::{Cell, Frontend};
use super::variant::Variant;
use crate::agent::Via;
use crate::run_name;
use crate::topology::Family;

/// Result of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellOutcome {
    Passed,
    Failed,
}

/// Results by variant and cell.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<&'static str, (Variant, BTreeMap<Cell, CellOutcome>)>);

impl Table {
    pub fn record(&mut self, variant: Variant, cell: Cell, outcome: CellOutcome) {
        self.0.entry(variant.name).or_insert_with(|| (variant, BTreeMap::new())).1.insert(cell, outcome);
    }

    /// No cell ran, because the filter matches other tests.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn write(&self) -> Result<PathBuf> {
        let path = run_name::scratch_dir().join("matrix.txt");
        fs::create_dir_all(run_name::scratch_dir())?;
        fs::write(&path, self.render()).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// A row per client, backend and frontend; a column per kind of socket and family.
    pub fn render(&self) -> String {
        let mut text = String::from("ok passed, FAIL failed, . not run (filtered, or only with --all)\n");
        for (name, (variant, results)) in &self.0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n{name}\n{}", header());
            for row in rows().filter(variant.has) {
                let _ = writeln!(text, "{}", line(row, results));
            }
        }
        text
    }
}

fn columns() -> impl Iterator<Item = (Via, Family)> {
    let vias = [Via::Tcp, Via::UdpConnected, Via::UdpUnconnected];
    vias.into_iter().flat_map(|via| Family::BOTH.map(|family| (via, family)))
}

/// One cell for each row.
fn rows() -> impl Iterator<Item = Cell> {
    Cell::all().into_iter().filter(|cell| cell.via == Via::Tcp && cell.family == Family::V4)
}

fn header() -> String {
    let names = columns()
        .map(|(via, family)| format!("{:>8}", format!("{}{}", short(via), &family.to_string()[2..])));
    format!("{:8} {:19} {:9} {}", "client", "backend", "frontend", names.collect::<String>())
}

fn short(via: Via) -> &'static str {
    match via {
        Via::Tcp | Via::Http => "TCP",
        Via::UdpConnected => "UDPc",
        Via::UdpUnconnected => "UDPu",
    }
}

fn line(row: Cell, results: &BTreeMap<Cell, CellOutcome>) -> String {
    let Cell { client, backend, frontend, .. } = row;
    let name =
        format!("{:8} {:19} {:9} ", client.to_string(), backend.to_string(), Frontend::to_string(&frontend));
    if let Some(reason) = row.meaningless() {
        return format!("{name}   no meaning: {reason}");
    }
    let marks = columns().map(|(via, family)| match results.get(&Cell { via, family, ..row }) {
        Some(CellOutcome::Passed) => "ok",
        Some(CellOutcome::Failed) => "FAIL",
        None => ".",
    });
    name + &marks.map(|mark| format!("{mark:>8}")).collect::<String>()
}
