//! The running daemon: its progress, the fill of its tables, its complaints.

use super::{Finding, Verdict, fail, pass, warn};
use crate::observe::status::StatusFile;

/// Fill of a table, in percent, from which on there is a warning.
const CROWDED: u64 = 80;
/// A change that is not in force after this time is late. `/healthz` has the same limit.
const LATE_MS: u64 = 60_000;
/// Complaints that are named.
const NAMED: usize = 5;

/// The daemon, as its status describes it.
#[derive(Clone, Debug, Default)]
pub struct DaemonFacts {
    pub is_running: bool,
    /// `None` where no daemon has run with this run directory.
    pub status: Option<StatusFile>,
    /// Milliseconds since 1970.
    pub now: u64,
}

pub fn findings(facts: &DaemonFacts) -> Vec<Finding> {
    let status = match (&facts.status, facts.is_running) {
        (Some(status), true) => status,
        (Some(_), false) => {
            let cure = "start `svc-ctl run`; the kernel goes on with its present tables";
            return vec![warn("daemon", "it does not run, but has run here", cure)];
        }
        (None, _) => return vec![pass("daemon", "it does not run: this was a look before the start")],
    };
    let mut all = vec![state(facts, status), drift(status)];
    all.extend(tables(status));
    all.extend(complaints(status));
    all
}

fn state(facts: &DaemonFacts, status: &StatusFile) -> Finding {
    if !status.synced {
        let cure = "see the checks of the API server above, and `svc-ctl status`";
        return fail("daemon", "it runs, and its source has not listed all objects yet", cure);
    }
    let waits = status.pending_since_unix_ms.map(|since| facts.now.saturating_sub(since));
    match waits {
        Some(ms) if ms > LATE_MS => {
            let error = status.last_error.as_deref().unwrap_or("no error is known");
            fail("daemon", format!("a change waits for {} s: {error}", ms / 1000), "see `svc-ctl status`")
        }
        _ => pass(
            "daemon",
            format!("it runs (pid {}), generation {} is in force", status.pid, status.generation),
        ),
    }
}

/// The loop compares the plan with the kernel's tables every 30 s.
fn drift(status: &StatusFile) -> Finding {
    match status.drifts {
        0 => pass("plan and kernel", "the tables have always been as planned"),
        count => warn(
            "plan and kernel",
            format!("{count} times another program had changed the tables, and they were healed"),
            "find the program that writes to the maps below --pin-dir",
        ),
    }
}

fn tables(status: &StatusFile) -> Vec<Finding> {
    let is_crowded = |used: u64, capacity: u64| {
        capacity != 0 && u128::from(used) * 100 >= u128::from(capacity) * u128::from(CROWDED)
    };
    let crowded = status.tables.iter().filter(|table| is_crowded(table.used, table.capacity));
    let mut all: Vec<Finding> = crowded
        .map(|table| {
            let found = format!("{}: {} of {} entries are used", table.table, table.used, table.capacity);
            let cure = "tables of Services grow by themselves (--max-table-entries); for flows see --flow-table-size";
            warn("tables", found, cure)
        })
        .collect();
    if all.is_empty() {
        all.push(pass("tables", format!("none of {} is {CROWDED} % full", status.tables.len())));
    }
    if status.unserved != 0 {
        let found = format!("{} Services have no room in a table", status.unserved);
        all.push(Finding { verdict: Verdict::Fail, ..warn("tables", found, "raise --max-table-entries") });
    }
    all
}

fn complaints(status: &StatusFile) -> Vec<Finding> {
    let all = &status.complaints;
    if all.total == 0 {
        return vec![pass("complaints", "none")];
    }
    let line = |c: &crate::observe::status::ComplaintStatus| {
        let field = if c.field.is_empty() { String::new() } else { format!("{}: ", c.field) };
        warn("complaints", format!("{}: {field}{}", c.object, c.reason), "")
    };
    let mut lines: Vec<Finding> = all.first.iter().take(NAMED).map(line).collect();
    let more = all.total.saturating_sub(lines.len() as u64);
    if more != 0 {
        let found = format!("and {more} more");
        lines.push(warn("complaints", found, "`svc-ctl status --complaints` lists them"));
    }
    lines
}
