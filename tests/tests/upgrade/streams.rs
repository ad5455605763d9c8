//! The load: connections that stay open, new ones, datagrams with sequence numbers and bulk, from clients of every kind.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use svc_tests::agent::{Job, Report, Via};
use svc_tests::topology::Family;
use svc_tests::{run_name, wait};

use crate::testbed::{FAR, NEAR, STICKY, Testbed};

const MORE_LIMIT: Duration = Duration::from_secs(20);
/// Octets in each direction of one bulk exchange.
const BULK: usize = 1 << 20;

/// Requests in the background.
struct Stream {
    what: String,
    job: Job,
    /// `None`: one after the other.
    per_second: Option<u32>,
    is_sticky: bool,
}

pub struct Streams(Vec<Stream>);

/// Clients and the addresses that they dial.
fn paths(testbed: &Testbed, family: Family) -> [(&'static str, &'static str, SocketAddr); 6] {
    [
        ("pod", "ClusterIP, pod of this node", NEAR.cluster_ip(family)),
        ("pod", "ClusterIP, pod of the other node", FAR.cluster_ip(family)),
        ("pod", "NodePort of the other node", testbed.node_port(2, NEAR, family)),
        ("client", "NodePort, pod of this node", testbed.node_port(1, NEAR, family)),
        ("client", "NodePort, pod of the other node", testbed.node_port(1, FAR, family)),
        ("node1", "ClusterIP by socket hooks", FAR.cluster_ip(family)),
    ]
}

impl Streams {
    pub fn start(testbed: &Testbed) -> Result<Self> {
        let mut all = Vec::new();
        for family in Family::BOTH {
            for (client, path, to) in paths(testbed, family) {
                let agent = testbed.agent(client)?;
                let mut add = |what: &str, job: Job, per_second| {
                    let what = format!("{family:?} {client} to {path}: {what}");
                    all.push(Stream { what, job, per_second: Some(per_second), is_sticky: false });
                };
                add("open TCP, 50 a second", agent.start_stream(to, 50)?, 50);
                add("open TCP, one a second", agent.start_stream(to, 1)?, 1);
                add("new TCP, 50 a second", agent.start_load(Via::Tcp, to, 50)?, 50);
                add("UDP, one socket, 50 a second", agent.start_datagrams(Via::UdpConnected, to, 50)?, 50);
                add("UDP, unconnected, 50 a second", agent.start_datagrams(Via::UdpUnconnected, to, 50)?, 50);
            }
            let bulk = [("pod", FAR.cluster_ip(family)), ("client", testbed.node_port(1, FAR, family))];
            for (client, to) in bulk {
                let job = testbed.agent(client)?.start_bulk(Via::Tcp, to, BULK)?;
                let what = format!("{family:?} {client}: bulk, 1 MiB each way");
                all.push(Stream { what, job, per_second: None, is_sticky: false });
            }
            let sticky = [
                ("pod", STICKY.cluster_ip(family)),
                ("node1", STICKY.cluster_ip(family)),
                ("client", testbed.node_port(1, STICKY, family)),
            ];
            for (client, to) in sticky {
                let job = testbed.agent(client)?.start_load(Via::Tcp, to, 20)?;
                let what = format!("{family:?} {client}: new TCP with session affinity, 20 a second");
                all.push(Stream { what, job, per_second: Some(20), is_sticky: true });
            }
        }
        let streams = Self(all);
        streams.go_on("before")?;
        testbed.world.await_renewals()?;
        Ok(streams)
    }

    /// Waits until every stream has more replies, and no failure.
    pub fn go_on(&self, moment: &str) -> Result<()> {
        let start: Vec<Report> = self.0.iter().map(|stream| stream.job.look()).collect::<Result<_>>()?;
        for (stream, start) in self.0.iter().zip(start) {
            let more = u64::from(stream.per_second.unwrap_or(1).div_ceil(2));
            let report = wait::until(&format!("{more} more replies"), MORE_LIMIT, || {
                let now = stream.job.look()?;
                Ok((now.ok >= start.ok + more || now.failed > 0).then_some(now))
            });
            report
                .and_then(|report| stream.check(&report))
                .with_context(|| format!("{moment}: {}", stream.what))?;
        }
        Ok(())
    }

    /// Writes a table of the streams. No reply may be missing. `before` are the gaps before the upgrade.
    pub fn end(self, title: &str, before: &[Duration]) -> Result<()> {
        let mut table = format!(
            "{title}\n{:>9} {:>6} {:>6} {:>12} {:>12}  stream\n",
            "replies", "failed", "reset", "longest gap", "before"
        );
        let (mut total, mut longest, mut outcome) = (Report::default(), Duration::ZERO, Ok(()));
        for (stream, before) in self.0.iter().zip(before) {
            let (report, gap) = (stream.job.look()?, stream.gap()?);
            let Report { ok, failed, resets, .. } = report;
            let [after, before] = [gap, *before].map(|gap| format!("{:.1} ms", gap.as_secs_f64() * 1e3));
            writeln!(table, "{ok:>9} {failed:>6} {resets:>6} {after:>12} {before:>12}  {}", stream.what)?;
            if stream.per_second.is_some() {
                longest = longest.max(gap);
            }
            outcome = outcome.and(stream.check(&report).with_context(|| stream.what.clone()));
            total = total.and(report);
        }
        let (Report { ok, failed, resets, .. }, longest) = (total, longest.as_millis());
        writeln!(
            table,
            "{ok} replies, {failed} failed, {resets} reset; longest gap without bulk {longest} ms"
        )?;
        println!("{table}");
        let path = run_name::scratch_dir().join(format!("upgrade {title}.txt").replace(' ', "-"));
        std::fs::write(&path, table).with_context(|| path.display().to_string())?;
        outcome
    }

    /// The longest gap of each stream so far.
    pub fn gaps(&self) -> Result<Vec<Duration>> {
        self.0.iter().map(Stream::gap).collect()
    }
}

impl Stream {
    /// The longest time between two replies, less the pause between two requests.
    fn gap(&self) -> Result<Duration> {
        let pause = self.per_second.map_or(Duration::ZERO, |per_second| Duration::from_secs(1) / per_second);
        Ok(self.job.look()?.longest_gap.saturating_sub(pause))
    }

    fn check(&self, report: &Report) -> Result<()> {
        let Report { ok, failed, first_failure, by_server, .. } = report;
        ensure!(*failed == 0, "{failed} of {} failed, first {first_failure:?}", ok + failed);
        ensure!(!self.is_sticky || by_server.len() == 1, "a client with session affinity met {by_server:?}");
        Ok(())
    }
}
