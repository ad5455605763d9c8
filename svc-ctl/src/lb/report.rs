//! The report that `svc-ctl lb` shows: a file in the run directory, which outlives the daemon.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::claim::choose;
use crate::observe::run_file;

/// Its name in the run directory.
pub const FILE: &str = "lb.json";

/// All load-balancer addresses of the pools.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub node: String,
    pub addresses: Vec<Row>,
}

/// Numbers for the metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Addresses that this node answers for.
    pub here: u64,
    pub elsewhere: u64,
    /// Addresses that no node is known to answer for, without those of `conflicts`.
    pub unanswered: u64,
    /// Addresses of a host that is no node.
    pub conflicts: u64,
    /// Since the start.
    pub taken: u64,
    pub given_up: u64,
}

/// One address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub address: IpAddr,
    /// Services that have it, as namespace/name.
    pub services: BTreeSet<String>,
    /// The interface on whose network it is announced; empty if there is none.
    pub interface: String,
    /// The node that answers for it, as far as this node knows.
    pub owner: Option<String>,
    /// Milliseconds since 1970: since when.
    pub since_unix_ms: u64,
    pub why: String,
    /// Nodes that may answer for it.
    pub candidates: BTreeSet<String>,
}

impl Report {
    /// `None`: no daemon that announces by layer 2 has written it.
    pub fn read(run_dir: &Path) -> anyhow::Result<Option<Self>> {
        run_file::read(&run_dir.join(FILE))
    }

    pub fn write(&self, run_dir: &Path) -> anyhow::Result<()> {
        run_file::replace(&run_dir.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Removes the report, if there is one.
    pub fn remove(run_dir: &Path) -> anyhow::Result<()> {
        run_file::remove(&run_dir.join(FILE))
    }

    /// The owners if a node were gone.
    #[must_use]
    pub fn without(&self, node: &str) -> Self {
        let mut all = self.clone();
        for row in &mut all.addresses {
            row.candidates.remove(node);
            let owner = row.owner.as_deref().filter(|owner| *owner != node);
            let after = choose(row.address, owner, &row.candidates).map(str::to_owned);
            row.why = match (&row.owner, &after) {
                (before, after) if before == after => "it stays".to_owned(),
                (Some(before), Some(_)) => format!("it was {before}'s"),
                (_, None) => format!("no other node may answer for it without {node}"),
                (None, Some(_)) => "it had no owner".to_owned(),
            };
            row.owner = after;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_node_its_addresses_go_to_others_and_the_rest_stays() {
        let row = |address: &str, owner: &str, candidates: &[&str]| Row {
            address: address.parse().unwrap(),
            services: BTreeSet::new(),
            interface: "eth0".to_owned(),
            owner: Some(owner.to_owned()),
            since_unix_ms: 0,
            why: String::new(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
        };
        let addresses = vec![
            row("192.0.2.1", "a", &["a", "b"]),
            row("192.0.2.2", "b", &["a", "b"]),
            row("192.0.2.3", "a", &["a"]),
        ];
        let after = Report { node: "a".to_owned(), addresses }.without("a");
        let rows = after.addresses.iter().map(|row| (row.owner.as_deref(), row.why.as_str()));
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                (Some("b"), "it was a's"),
                (Some("b"), "it stays"),
                (None, "no other node may answer for it without a"),
            ]
        );
    }
}
