//! The report of a rolling update, per node and in total; printed, and written to a file.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use svc_tests::agent::Report;
use svc_tests::run_name::scratch_dir;

use crate::downtime::Downtime;

#[derive(Debug)]
pub struct Transcript {
    pub took: Duration,
    /// Connections with one request.
    pub new: Report,
    /// Number of long connections.
    pub lasting: u32,
    pub streams: Report,
    pub downtimes: Vec<Downtime>,
}

impl Transcript {
    pub fn new_per_second(&self) -> u64 {
        (self.new.ok as f64 / self.took.as_secs_f64()) as u64
    }

    pub fn publish(&self) -> Result<()> {
        println!("{self}");
        let path = scratch_dir().join("rolling-update.txt");
        fs::write(&path, self.to_string()).with_context(|| format!("write {}", path.display()))
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { took, new, lasting, streams, downtimes } = self;
        let took = took.as_secs_f64();
        writeln!(f, "kubectl -n kube-system rollout restart daemonset/svc, replaced after {took:.1} s")?;
        writeln!(f, "TCP and UDP, IPv4 and IPv6, from pods, nodes and outside, by ClusterIP and NodePort")?;
        writeln!(
            f,
            "{:<5} {:>8} {:>8} {:>9} {:>20} {:>7}",
            "node", "down at", "up at", "without", "requests meanwhile", "failed"
        )?;
        for Downtime { node, down, up, inside } in downtimes {
            let [down, up] = [down, up].map(Duration::as_secs_f64);
            let (without, all) = (up - down, inside.ok + inside.failed);
            writeln!(
                f,
                "{node:<5} {down:>6.1} s {up:>6.1} s {without:>7.1} s {all:>20} {:>7}",
                inside.failed
            )?;
        }
        let rate = self.new_per_second();
        writeln!(f, "{} new connections, {rate} a second: {} failed", new.ok + new.failed, new.failed)?;
        let asked = streams.ok + streams.failed;
        writeln!(f, "{asked} requests on {lasting} connections that lasted: {} failed", streams.failed)
    }
}
