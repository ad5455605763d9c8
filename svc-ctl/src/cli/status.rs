//! `svc-ctl status`.

use comfy_table::{Table, presets};

use super::args::{Output, StatusArgs};
use crate::observe::status::StatusFile;

/// Share of a table beyond which it is worth a warning.
const CROWDED: f64 = 0.7;

pub fn main(args: &StatusArgs) -> anyhow::Result<()> {
    let status = StatusFile::read(&args.run_dir.run_dir)?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Table => print(&status),
    }
    Ok(())
}

fn print(s: &StatusFile) {
    let daemon = if s.is_running() {
        format!("running, pid {}", s.pid)
    } else {
        format!("not running (was pid {}); the kernel goes on with what follows", s.pid)
    };
    println!("node        {}", s.node);
    println!("daemon      {daemon}, version {}, ABI {}", s.version, s.abi);
    println!("source      {}, {}", s.source, if s.synced { "synced" } else { "not synced yet" });
    let pending = if s.pending_since_unix_ms.is_some() { ", a newer one is pending" } else { "" };
    println!("generation  {} in force{pending}", s.generation);
    if let Some(error) = &s.last_error {
        println!("last error  {error} ({} so far)", s.failures);
    }
    println!("cgroup      {}", s.cgroup);
    for warning in &s.warnings {
        println!("warning     {warning}");
    }
    println!("\n{}", interfaces(s));
    println!("\n{}", tables(s));
    if !s.counters.is_empty() {
        println!();
        for (label, value) in &s.counters {
            println!("{label:26}{value}");
        }
    }
    if !s.rejected.is_empty() {
        println!("\nrefused");
        for r in &s.rejected {
            let field = if r.field.is_empty() { String::new() } else { format!(": {}", r.field) };
            println!("  {}{field}: {}", r.object, r.reason);
        }
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
        let is_crowded = t.used as f64 > t.capacity as f64 * CROWDED;
        let note = if is_crowded { "more than 70 % full" } else { "" };
        table.add_row([t.table.clone(), t.used.to_string(), t.capacity.to_string(), note.to_owned()]);
    }
    table
}
