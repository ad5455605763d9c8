//! Kubernetes' own end-to-end suite against a running cluster, and the table of results per proxy.
//!
//! `tests/conformance/` has the records of whole runs and `notes.yaml`, in which people write why a spec does not
//! pass. `tests/CONFORMANCE.md` is made from them.

mod internet;
pub mod notes;
pub mod record;
pub mod report;
mod run;
pub mod suite;
pub mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::run_name;
use notes::Notes;
use record::Record;
pub use run::main;
use table::Table;

/// The proxy that svc is compared with.
pub const WITNESS: &str = "kube-proxy-nftables";
pub const OURS: &str = "svc";

fn folder() -> PathBuf {
    run_name::workspace_dir().join("tests/conformance")
}

/// File of a whole run with this proxy.
pub fn record_path(proxy: &str) -> PathBuf {
    folder().join(format!("{proxy}.json"))
}

fn table_path() -> PathBuf {
    run_name::workspace_dir().join("tests/CONFORMANCE.md")
}

/// The table of the recorded runs.
pub fn table() -> Result<Table> {
    let path = folder().join("notes.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let notes = Notes::parse(&text)?;
    Ok(table::make(&Record::read(&record_path(WITNESS))?, &Record::read(&record_path(OURS))?, &notes))
}

/// Writes the table; then fails if it has problems.
pub fn publish() -> Result<Table> {
    let table = table()?;
    fs::write(table_path(), &table.text).with_context(|| format!("write {}", table_path().display()))?;
    ensure!(table.problems.is_empty(), "{}:\n  {}", table_path().display(), table.problems.join("\n  "));
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Specs that kube-proxy passes and svc does not on purpose.
    const DEVIATING: [&str; 1] = ["[sig-network] KubeProxy should set TCP CLOSE_WAIT timeout [Privileged]"];

    #[test]
    fn the_published_table_follows_from_the_records_and_has_no_problem() {
        let table = table().unwrap();
        assert_eq!(table.problems, [""; 0]);
        assert_eq!(table.waiting, [""; 0]);
        assert_eq!(table.deviating, DEVIATING);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(table_path(), &table.text).unwrap();
        }
        let published = fs::read_to_string(table_path()).unwrap();
        assert_eq!(published, table.text, "UPDATE_EXPECT=1 rewrites it");
    }
}
