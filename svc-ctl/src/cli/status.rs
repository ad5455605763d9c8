//! `svc-ctl status`.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::{Table, presets};

use super::args::{Output, StatusArgs};
use super::output::emit;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::{Pins, is_locked};
use crate::dataplane::usage::usage;
use crate::observe::status::{StatusFile, TableStatus};

/// Share of a table beyond which it is worth a warning.
const CROWDED: f64 = 0.7;

pub fn main(args: &StatusArgs) -> anyhow::Result<()> {
    let run_dir = &args.run_dir.run_dir;
    let mut status = StatusFile::read(run_dir)?;
    // The file is as old as the daemon's last word; the kernel goes on without it.
    if let Err(err) = read_live(&mut status, &args.pins.pin_dir) {
        tracing::debug!("{err:#}");
    }
    match args.output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(&status)?)),
        Output::Table => emit(&text(&status, is_locked(&run_dir.join("lock")))?),
    }
}

/// Puts counters and the use of tables as the pinned maps have them now in place of what the file says.
fn read_live(status: &mut StatusFile, pin_dir: &Path) -> anyhow::Result<()> {
    let pins = Pins::existing(pin_dir)?;
    let (maps, usage) = (Maps::open(&pins)?, usage(&pins)?);
    status.counters = maps.nonzero_counters();
    status.tables.retain(|t| !usage.iter().any(|u| u.table == t.table));
    status.tables.extend(usage.iter().map(|u| TableStatus {
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
        format!("not running (was pid {}); the kernel goes on with what follows", s.pid)
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
    if s.reattached != 0 {
        writeln!(out, "reattached  {} (found detached or unpinned)", s.reattached)?;
    }
    let (ended, left) = (s.udp_sockets_ended, s.udp_sockets_left);
    if (ended, left) != (0, 0) {
        let left = if left == 0 { String::new() } else { format!(", {left} could not be") };
        writeln!(out, "sockets     {ended} connected UDP sockets ended, their endpoints being gone{left}")?;
    }
    for warning in &s.warnings {
        writeln!(out, "warning     {warning}")?;
    }
    writeln!(out, "\n{}", interfaces(s))?;
    writeln!(out, "\n{}", tables(s))?;
    if !s.counters.is_empty() {
        writeln!(out)?;
        for (label, value) in &s.counters {
            writeln!(out, "{label:26}{value}")?;
        }
    }
    if !s.rejected.is_empty() {
        writeln!(out, "\nrefused")?;
        for r in &s.rejected {
            let field = if r.field.is_empty() { String::new() } else { format!(": {}", r.field) };
            writeln!(out, "  {}{field}: {}", r.object, r.reason)?;
        }
    }
    Ok(out)
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
        let is_crowded = t.used as f64 > t.capacity as f64 * CROWDED;
        let note = if is_crowded { "more than 70 % full" } else { "" };
        table.add_row([t.table.clone(), t.used.to_string(), t.capacity.to_string(), note.to_owned()]);
    }
    table
}
