//! `svc-ctl status`.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::{Table, presets};

use super::args::{Output, StatusArgs};
use super::output::emit;
use crate::dataplane::pins::{Pins, is_locked};
use crate::dataplane::usage::{Usage, usage};
use crate::observe::ask;
use crate::observe::status::{ComplaintStatus, StatusFile, TableStatus};
use crate::sweeper::{Table as SweptTable, counters};

/// Used part of a table above which it is marked as nearly full.
const NEARLY_FULL: f64 = 0.7;

pub fn main(args: &StatusArgs) -> anyhow::Result<()> {
    let run_dir = &args.run_dir.run_dir;
    if args.complaints {
        let all = ask::complaints(run_dir, args.namespace.as_deref())?;
        return match args.output {
            Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(&all)?)),
            Output::Table => emit(&all.iter().map(|complaint| line(complaint) + "\n").collect::<String>()),
        };
    }
    let mut status = StatusFile::read(run_dir)?;
    // The file is as old as the daemon's last update; the kernel's tables go on without it.
    if let Err(err) = read_live(&mut status, &args.pins.pin_dir) {
        tracing::debug!("{err:#}");
    }
    match args.output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(&status)?)),
        Output::Table => emit(&text(&status, is_locked(&run_dir.join("lock")))?),
    }
}

/// Replaces the file's counters and table use by those of the pinned maps. Only the daemon knows the number of
/// evictions.
fn read_live(status: &mut StatusFile, pin_dir: &Path) -> anyhow::Result<()> {
    let pins = Pins::existing(pin_dir)?;
    let evicted: Vec<&str> = SweptTable::ALL.into_iter().filter_map(SweptTable::evicted_label).collect();
    status.counters.retain(|label, _| evicted.contains(&label.as_str()));
    status.counters.extend(counters(&pins)?);
    let shown = SweptTable::ALL.into_iter().filter_map(|table| Some((table.map(), table.shown_as()?)));
    let live: Vec<Usage> =
        shown.map(|(map, shown_as)| usage(&pins, map, shown_as)).collect::<anyhow::Result<_>>()?;
    status.tables.retain(|t| !live.iter().any(|u| u.table == t.table));
    status.tables.extend(live.iter().map(|u| TableStatus {
        table: u.table.to_owned(),
        used: u.used,
        capacity: u.capacity,
    }));
    Ok(())
}

fn text(s: &StatusFile, is_running: bool) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let daemon = if is_running {
        format!("running, pid {}", s.pid)
    } else {
        format!("not running (was pid {}); the kernel goes on with the state below", s.pid)
    };
    writeln!(out, "node        {}", s.node)?;
    writeln!(out, "daemon      {daemon}, version {}, ABI {}", s.version, s.abi)?;
    writeln!(out, "source      {}, {}", s.source, if s.synced { "synced" } else { "not synced yet" })?;
    let pending = if s.pending_since_unix_ms.is_some() { ", a newer one is pending" } else { "" };
    writeln!(out, "generation  {} in force{pending}", s.generation)?;
    if let Some(error) = &s.last_error {
        writeln!(out, "last error  {error} ({} so far)", s.failures)?;
    }
    writeln!(out, "cgroup      {}", s.cgroup)?;
    writeln!(out, "masquerade  {}", s.masquerade)?;
    if s.reattached != 0 {
        writeln!(out, "reattached  {} (found detached or unpinned)", s.reattached)?;
    }
    let (ended, left) = (s.udp_sockets_ended, s.udp_sockets_left);
    if (ended, left) != (0, 0) {
        let left = if left == 0 { String::new() } else { format!(", {left} could not be") };
        writeln!(out, "sockets     {ended} connected UDP sockets ended, their endpoints being gone{left}")?;
    }
    if s.unserved != 0 {
        writeln!(out, "unserved    {} Services, or parts of them, have no room in a table", s.unserved)?;
    }
    writeln!(out, "\n{}", interfaces(s))?;
    writeln!(out, "\n{}", tables(s))?;
    if !s.counters.is_empty() {
        writeln!(out)?;
        for (label, value) in &s.counters {
            writeln!(out, "{label:26}{value}")?;
        }
    }
    out.push_str(&complaints(s)?);
    Ok(out)
}

/// The number of complaints of each kind, and the first ones.
fn complaints(s: &StatusFile) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let all = &s.complaints;
    if all.total == 0 {
        return Ok(out);
    }
    let kinds: Vec<String> = all.by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    writeln!(out, "\ncomplaints  {}: {}", all.total, kinds.join(", "))?;
    for complaint in &all.first {
        writeln!(out, "  {}", line(complaint))?;
    }
    let more = all.total.saturating_sub(all.first.len() as u64);
    if more != 0 {
        writeln!(out, "  ... and {more} more: svc-ctl status --complaints")?;
    }
    Ok(out)
}

fn line(complaint: &ComplaintStatus) -> String {
    let ComplaintStatus { object, field, reason, .. } = complaint;
    match field.as_str() {
        "" => format!("{object}: {reason}"),
        field => format!("{object}: {field}: {reason}"),
    }
}

fn interfaces(s: &StatusFile) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "INTERFACE",
        "ROLE",
        "BECAUSE",
        "HOOKS",
        "ATTACHED AFTER",
    ]);
    for i in &s.interfaces {
        let hooks: Vec<&str> = i.hooks.iter().chain(&i.errors).map(String::as_str).collect();
        table.add_row([
            i.name.clone(),
            i.role.clone(),
            i.reason.clone(),
            if hooks.is_empty() { "-".to_owned() } else { hooks.join(" ") },
            i.attach_ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms")),
        ]);
    }
    table
}

fn tables(s: &StatusFile) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["TABLE", "USED", "CAPACITY", ""]);
    for t in &s.tables {
        let is_crowded = t.used as f64 > t.capacity as f64 * NEARLY_FULL;
        let note = if is_crowded { "more than 70 % full" } else { "" };
        table.add_row([t.table.clone(), t.used.to_string(), t.capacity.to_string(), note.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::ComplaintsStatus;

    #[test]
    fn a_thousand_refused_services_are_shown_as_a_count_the_first_ones_and_a_hint() {
        let complaint = |n| ComplaintStatus {
            object: format!("Service default/s{n}"),
            field: "spec.type".to_owned(),
            reason: "odd".to_owned(),
            kind: "refused".to_owned(),
        };
        let status = StatusFile {
            complaints: ComplaintsStatus {
                total: 1_001,
                by_kind: [("host".to_owned(), 1), ("refused".to_owned(), 1_000)].into(),
                first: (0..20).map(complaint).collect(),
            },
            ..StatusFile::default()
        };
        let text = complaints(&status).unwrap();
        let lines: Vec<&str> = text.trim_start().lines().collect();
        assert_eq!(lines.len(), 22);
        assert_eq!(lines[0], "complaints  1001: 1 host, 1000 refused");
        assert_eq!(lines[1], "  Service default/s0: spec.type: odd");
        assert_eq!(lines[21], "  ... and 981 more: svc-ctl status --complaints");
        assert_eq!(complaints(&StatusFile::default()).unwrap(), "");
    }
}
