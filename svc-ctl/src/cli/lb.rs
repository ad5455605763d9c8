//! `svc-ctl lb`: load-balancer addresses and the nodes that answer for them, as this node knows it; and what it announces by BGP.

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::args::Output;
use super::args::lb::{LbArgs, LbCommand};
use super::output::emit;
use crate::bgp::session::State;
use crate::lb::bgp::report::{AddressRow, BgpReport, PeerRow};
use crate::lb::report::{Report, Row};

/// Both reports as one.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    bgp: Option<BgpReport>,
}

pub fn main(args: &LbArgs) -> anyhow::Result<()> {
    let run_dir = &args.run_dir.run_dir;
    let bgp = BgpReport::read(run_dir)?;
    // A node that announces by BGP alone writes no other report.
    let of_bgp = || Some(Report { node: bgp.as_ref()?.node.clone(), addresses: Vec::new() });
    let report = Report::read(run_dir)?.or_else(of_bgp).with_context(|| {
        format!("{}: no daemon with load-balancer pools has written here", run_dir.display())
    })?;
    let whole = match &args.command {
        Some(LbCommand::Simulate { without }) => Whole { report: report.without(without), bgp: None },
        None => Whole { report, bgp },
    };
    match args.output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(&whole)?)),
        Output::Table => emit(&format!("{}\n", text(&whole))),
    }
}

fn text(whole: &Whole) -> String {
    let header = ["ADDRESS", "SERVICE", "INTERFACE", "OWNER", "SINCE", "WHY"];
    let by_l2 = || table(&header, whole.report.addresses.iter().map(row)).to_string();
    let Some(bgp) = &whole.bgp else { return by_l2() };
    let mut parts = Vec::new();
    if !whole.report.addresses.is_empty() {
        parts.push(by_l2());
    }
    parts.push(
        table(
            &["ADDRESS", "SERVICE", "PREFIX", "ANNOUNCED TO", "WHY NOT"],
            bgp.addresses.iter().map(address),
        )
        .to_string(),
    );
    if !bgp.peers.is_empty() {
        let header = ["PEER", "ADDRESS", "STATE", "SINCE", "PREFIXES", "ERROR"];
        parts.push(table(&header, bgp.peers.iter().map(peer)).to_string());
    }
    parts.join("\n\n")
}

fn table<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    table
}

fn row(row: &Row) -> [String; 6] {
    [
        row.address.to_string(),
        list(&row.services),
        or_dash(&row.interface),
        or_dash(row.owner.as_deref().unwrap_or_default()),
        time(row.since_unix_ms),
        or_dash(&row.why),
    ]
}

fn address(row: &AddressRow) -> [String; 5] {
    [
        row.address.to_string(),
        list(&row.services),
        or_dash(&list(&row.prefixes)),
        or_dash(&list(&row.peers)),
        or_dash(&row.why_not),
    ]
}

fn peer(row: &PeerRow) -> [String; 6] {
    let is_established = row.state == State::Established;
    // The error of an earlier session explains a recent beginning of this one.
    let error = match (&row.shortcoming, &row.last_error) {
        (Some(shortcoming), _) => shortcoming.clone(),
        (None, Some(error)) if is_established => format!("before: {error}"),
        (None, error) => error.clone().unwrap_or_default(),
    };
    [
        row.name.clone(),
        row.address.to_string(),
        row.state.label().to_owned(),
        time(row.since_unix_ms),
        row.prefixes.len().to_string(),
        or_dash(&error),
    ]
}

fn list<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn time(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}
