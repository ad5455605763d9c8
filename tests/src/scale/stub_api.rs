//! A fast API server: prepared objects as streamed lists, pages, and watches.
//!
//! It always answers in JSON, which client-go understands. Each connection has a thread.

use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{Shutdown, shutdown};

use super::http::{self, Request};
use super::store::{NODES, RESOURCES, ResourceKind, Store};
use crate::netns::Netns;

/// A client that reads nothing for this long is disconnected.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// A running stub; dropping it closes its port.
#[derive(Debug)]
pub struct StubApi {
    store: Arc<Mutex<Store>>,
    listener: Arc<TcpListener>,
    pub address: SocketAddr,
}

impl StubApi {
    /// Listens on the loopback address of a network namespace.
    pub fn start(netns: &Netns, store: Store) -> Result<Self> {
        Self::serve(
            netns.within(|| TcpListener::bind("127.0.0.1:0").context("listen on the loopback"))?,
            store,
        )
    }

    /// Listens on the loopback address of this process.
    pub fn start_here(store: Store) -> Result<Self> {
        Self::serve(TcpListener::bind("127.0.0.1:0").context("listen on the loopback")?, store)
    }

    fn serve(listener: TcpListener, store: Store) -> Result<Self> {
        let address = listener.local_addr()?;
        let (listener, store) = (Arc::new(listener), Arc::new(Mutex::new(store)));
        let (accepting, shared) = (Arc::clone(&listener), Arc::clone(&store));
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let store = Arc::clone(&shared);
                thread::spawn(move || serve(&store, stream));
            }
        });
        Ok(Self { store, listener, address })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// See [`Store::replace`].
    pub fn replace(&self, resource: usize, changes: Vec<(usize, String)>) -> Instant {
        lock(&self.store).replace(resource, changes)
    }

    /// When the last of these lists was completely written; `None` before that.
    pub fn listed(&self, resources: &[usize]) -> Option<Instant> {
        let listed = lock(&self.store).listed;
        let times: Option<Vec<_>> = resources.iter().map(|resource| listed[*resource]).collect();
        times?.into_iter().max()
    }

    /// Events that clients have created.
    pub fn created(&self) -> u64 {
        lock(&self.store).created
    }

    /// Requests that could not be answered.
    pub fn unknown(&self) -> Vec<String> {
        lock(&self.store).unknown.clone()
    }
}

impl Drop for StubApi {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd as _;
        // Wakes the accepting thread; the others end with their connections.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client that disconnects early is not an error of the stub.
fn serve(store: &Mutex<Store>, stream: TcpStream) {
    let stream = Arc::new(stream);
    let _ = answer_all(store, &stream);
    lock(store).forget(&stream);
}

fn answer_all(store: &Mutex<Store>, stream: &Arc<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        let resource = RESOURCES.iter().position(|resource| resource.path == request.path);
        match (request.method.as_str(), resource) {
            ("GET", Some(resource)) if request.is_set("watch") => {
                watch(store, stream, resource, &request)?;
                // From now on the connection belongs to the watch.
                while Request::read(&mut reader)?.is_some() {}
            }
            ("GET", Some(resource)) => list(store, stream, resource, &request)?,
            _ => other(store, stream, &request)?,
        }
    }
    Ok(())
}

fn watch(
    store: &Mutex<Store>,
    stream: &Arc<TcpStream>,
    resource: usize,
    request: &Request,
) -> io::Result<()> {
    let mut out: &TcpStream = stream;
    if !request.is_set("sendInitialEvents") {
        let since = request.parameter("resourceVersion").and_then(|version| version.parse().ok());
        let since = since.unwrap_or_default();
        http::begin_chunks(&mut out)?;
        if Store::knows(since) {
            return lock(store).watch(resource, since, false, stream);
        }
        let mut chunks = Vec::new();
        let gone = format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status(410, "Expired"));
        http::push_chunk(&mut chunks, gone.as_bytes());
        http::push_chunk(&mut chunks, b"");
        return out.write_all(&chunks);
    }
    let (since, count) = {
        let store = lock(store);
        (store.version(), store.count(resource))
    };
    http::begin_chunks(&mut out)?;
    write_objects(store, out, resource, (0, count), true)?;
    let mut store = lock(store);
    store.listed[resource] = Some(Instant::now());
    store.watch(resource, since, true, stream)
}

/// Objects of a range, in chunks.
fn write_objects(
    store: &Mutex<Store>,
    mut out: &TcpStream,
    resource: usize,
    (mut next, end): (usize, usize),
    as_events: bool,
) -> io::Result<()> {
    let (mut portion, mut chunk, mut is_first) = (Vec::new(), Vec::new(), true);
    while next < end {
        portion.clear();
        let after = lock(store).portion(resource, next, end, as_events, &mut portion);
        if after == next {
            break;
        }
        if !as_events && !is_first {
            portion.insert(0, b',');
        }
        (next, is_first) = (after, false);
        chunk.clear();
        http::push_chunk(&mut chunk, &portion);
        out.write_all(&chunk)?;
    }
    Ok(())
}

/// A list or a page of it. The continue token of a page has the version of the first page, and a position.
fn list(store: &Mutex<Store>, mut out: &TcpStream, resource: usize, request: &Request) -> io::Result<()> {
    let (mut version, count) = {
        let store = lock(store);
        (store.version(), store.count(resource))
    };
    let mut from = 0_usize;
    if let Some((first, place)) = request.parameter("continue").and_then(|token| token.split_once('.')) {
        version = first.parse().unwrap_or(version);
        from = place.parse().unwrap_or_default();
    }
    let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    let end = count.min(from.saturating_add(limit.unwrap_or(count)));
    let ResourceKind { kind, api_version, .. } = &RESOURCES[resource];
    let next = if end < count {
        format!(",\"continue\":\"{version}.{end}\",\"remainingItemCount\":{}", count - end)
    } else {
        String::new()
    };
    let head = format!(
        "{{\"kind\":\"{kind}List\",\"apiVersion\":\"{api_version}\",\
         \"metadata\":{{\"resourceVersion\":\"{version}\"{next}}},\"items\":["
    );
    http::begin_chunks(&mut out)?;
    let mut chunks = Vec::new();
    http::push_chunk(&mut chunks, head.as_bytes());
    out.write_all(&chunks)?;
    write_objects(store, out, resource, (from, end), false)?;
    if end == count {
        lock(store).listed[resource] = Some(Instant::now());
    }
    chunks.clear();
    http::push_chunk(&mut chunks, b"]}\n");
    http::push_chunk(&mut chunks, b"");
    out.write_all(&chunks)
}

/// Accepts everything that is created or written, returns our Node by name, and reports health.
fn other(store: &Mutex<Store>, mut out: &TcpStream, request: &Request) -> io::Result<()> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", _) => {
            lock(store).created += 1;
            http::answer(&mut out, "201 Created", &request.body)
        }
        ("PUT" | "PATCH", _) => http::answer(&mut out, "200 OK", &request.body),
        ("GET", "/version") => {
            http::answer(&mut out, "200 OK", br#"{"major":"1","minor":"36","gitVersion":"v1.36.0"}"#)
        }
        ("GET", "/healthz" | "/livez" | "/readyz") => http::answer(&mut out, "200 OK", b"ok"),
        ("GET", path) if path.starts_with("/api/v1/nodes/") => {
            let node = lock(store).first(NODES).unwrap_or_default();
            http::answer(&mut out, "200 OK", node.as_bytes())
        }
        (method, path) => {
            lock(store).unknown.push(format!("{method} {path}"));
            http::answer(&mut out, "404 Not Found", status(404, "NotFound").as_bytes())
        }
    }
}

fn status(code: u16, reason: &str) -> String {
    format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Failure\",\
         \"message\":\"the stub has nothing of it\",\"reason\":\"{reason}\",\"code\":{code}}}"
    )
}

#[cfg(test)]
mod tests;
