//! `svc-ctl lb`: load-balancer addresses and the nodes that answer for them, as this node knows it.

use comfy_table::{Table, presets};

use super::args::Output;
use super::args::lb::{LbArgs, LbCommand};
use super::output::emit;
use crate::lb::report::{Report, Row};

pub fn main(args: &LbArgs) -> anyhow::Result<()> {
    let mut report = Report::read(&args.run_dir.run_dir)?;
    if let Some(LbCommand::Simulate { without }) = &args.command {
        report = report.without(without);
    }
    match args.output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(&report)?)),
        Output::Table => emit(&format!("{}\n", table(&report))),
    }
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["ADDRESS", "SERVICE", "INTERFACE", "OWNER", "SINCE", "WHY"]);
    table.add_rows(report.addresses.iter().map(row));
    table
}

fn row(row: &Row) -> [String; 6] {
    let since =
        i64::try_from(row.since_unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        row.address.to_string(),
        row.services.iter().cloned().collect::<Vec<_>>().join(", "),
        text(&row.interface),
        text(row.owner.as_deref().unwrap_or_default()),
        since.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
        text(&row.why),
    ]
}
