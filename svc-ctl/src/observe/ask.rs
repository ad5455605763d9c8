//! Queries the running daemon at its socket.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;

use super::socket::{FILE, within};
use super::status::ComplaintStatus;
use super::wanted::{Wanted, WantedFrontend};

/// Maximum time for the daemon's response.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of the service ids in the tables.
pub fn services(run_dir: &Path) -> anyhow::Result<BTreeMap<u32, String>> {
    ask(run_dir, "/services")
}

/// The wanted side of a service port, by its id in the tables. `None`: the daemon knows no such port.
pub fn wanted(run_dir: &Path, id: u32, is_ipv4: bool) -> anyhow::Result<Option<Wanted>> {
    ask(run_dir, &format!("/wanted?id={id}&family={}", if is_ipv4 { 4 } else { 6 }))
}

/// Every frontend that the objects want.
pub fn wanted_frontends(run_dir: &Path) -> anyhow::Result<Vec<WantedFrontend>> {
    ask(run_dir, "/wanted/frontends")
}

/// All complaints, or those of a namespace.
pub fn complaints(run_dir: &Path, namespace: Option<&str>) -> anyhow::Result<Vec<ComplaintStatus>> {
    match namespace {
        // A namespace is a DNS label, so it needs no escaping.
        Some(name) => {
            let is_label = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            ensure!(is_label && !name.is_empty(), "--namespace {name:?}: not the name of a namespace");
            ask(run_dir, &format!("/complaints?namespace={name}"))
        }
        None => ask(run_dir, "/complaints"),
    }
}

fn ask<T: DeserializeOwned>(run_dir: &Path, path: &str) -> anyhow::Result<T> {
    let socket = run_dir.join(FILE);
    let answer = within(run_dir, |dir| UnixStream::connect(dir.join(FILE)))
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            // HTTP/1.0: no keep-alive and no chunks.
            write!(stream, "GET {path} HTTP/1.0\r\nhost: svc\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        })
        .with_context(|| format!("asking the daemon at {}: does it run?", socket.display()))?;
    let body = body(&answer).with_context(|| format!("asking {path} at {}", socket.display()))?;
    serde_json::from_slice(body).with_context(|| format!("{path} at {}", socket.display()))
}

/// The body of a successful HTTP response.
fn body(answer: &[u8]) -> anyhow::Result<&[u8]> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("the answer is not whole")?;
    let (head, body) = (answer.get(..end).unwrap_or_default(), answer.get(end + 4..).unwrap_or_default());
    let head = String::from_utf8_lossy(head);
    let status = head.split_whitespace().nth(1);
    ensure!(status == Some("200"), "the answer is {:?}", head.lines().next().unwrap_or_default());
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_successful_response_is_accepted() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\na: b\r\n\r\n[]").unwrap(), b"[]");
        assert!(body(b"HTTP/1.0 404 Not Found\r\n\r\n").is_err() && body(b"HTTP/1.0 200").is_err());
        assert!(complaints(Path::new("/nonexistent"), Some("a b")).is_err());
    }
}
