//! Results of probes on a connection: one line of JSON for all of them, at each change and every second.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, LinesCodec};

use super::super::prober::{Findings, ProbeKey};

/// Interval between lines if nothing changes.
pub const PERIOD: Duration = Duration::from_secs(1);
/// A connection without a line for this long is dead.
pub const SILENCE: Duration = Duration::from_secs(3);
/// Octets of a line: some ten thousand probes.
const MAX_LINE: usize = 8 << 20;

/// Whether the container of a probe is ready, and why not.
pub type Results = BTreeMap<ProbeKey, (bool, String)>;

#[derive(Serialize, Deserialize)]
struct Written {
    namespace: String,
    pod: String,
    field: String,
    address: Option<IpAddr>,
    ready: bool,
    reason: String,
}

pub fn framed(socket: TcpStream) -> Framed<TcpStream, LinesCodec> {
    Framed::new(socket, LinesCodec::new_with_max_length(MAX_LINE))
}

/// The results that are known.
pub fn line_of(findings: &Findings) -> serde_json::Result<String> {
    let written = findings.iter().filter_map(|(((namespace, pod), field, address), finding)| {
        Some(Written {
            namespace: namespace.clone(),
            pod: pod.clone(),
            field: field.clone(),
            address: *address,
            ready: finding.readiness.is_ready()?,
            reason: finding.reason.clone(),
        })
    });
    serde_json::to_string(&written.collect::<Vec<_>>())
}

pub fn parse(line: &str) -> serde_json::Result<Results> {
    let written: Vec<Written> = serde_json::from_str(line)?;
    let result = |w: Written| (((w.namespace, w.pod), w.field, w.address), (w.ready, w.reason));
    Ok(written.into_iter().map(result).collect())
}
