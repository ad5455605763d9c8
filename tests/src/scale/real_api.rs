//! The real API server: filled and changed through `kubectl proxy`, which needs no credentials from us.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use super::changes::ApiServer;
use super::objects::{self, Objects};
use super::population::Population;
use crate::cluster::{ControlPlane, Settings};
use crate::netns::Netns;
use crate::wait;

const PORT: u16 = 8001;
const CONNECTIONS: usize = 8;
/// Metadata that the API server sets, and owner references, with which garbage collection would delete the object.
const NOT_OURS: [&str; 6] =
    ["resourceVersion", "uid", "generation", "creationTimestamp", "managedFields", "ownerReferences"];
/// Owner of a slice. The controllers would delete their own, because there are no Pods.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// A control plane with the objects. Dropping it removes everything.
pub struct RealApi {
    proxy: Child,
    connections: Vec<Mutex<TcpStream>>,
    pub control: ControlPlane,
}

impl RealApi {
    pub fn start(population: &Population, objects: &Objects) -> Result<Self> {
        let mut settings = Settings::of_test("scale-api")?;
        settings.controller_flags = vec!["--node-monitor-grace-period=24h".into()];
        let control = ControlPlane::start(&settings)?;
        let mut kubectl = control.kubectl()?;
        kubectl.args(["proxy", "--port", &PORT.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let proxy = kubectl.spawn().context("start kubectl proxy")?;
        let mut api = Self { proxy, connections: Vec::new(), control };
        for _ in 0..CONNECTIONS {
            api.connections.push(Mutex::new(connect(api.control.hub())?));
        }
        api.fill(population, objects)?;
        Ok(api)
    }

    fn fill(&self, population: &Population, objects: &Objects) -> Result<()> {
        let namespace = |name: String| {
            let body = format!("{{\"metadata\":{{\"name\":\"{name}\"}}}}");
            ("POST", "/api/v1/namespaces".to_owned(), body)
        };
        self.send(&objects::namespaces().map(namespace).collect::<Vec<_>>())?;
        self.send(&[("POST", "/api/v1/nodes".to_owned(), plain(&objects::node())?)])?;
        let mut requests = Vec::new();
        for nth in population.services() {
            let services = format!("/api/v1/namespaces/{}/services", objects::namespace(nth));
            requests.push(("POST", services, plain(&objects.service(population, nth))?));
            requests.push(("POST", slices_path(nth), plain(&objects.slice4(population, nth))?));
        }
        self.send(&requests)
    }

    /// Sends requests concurrently, each on the next free connection.
    fn send(&self, requests: &[(&str, String, String)]) -> Result<()> {
        let share = requests.len().div_ceil(self.connections.len()).max(1);
        thread::scope(|scope| {
            let threads: Vec<_> = requests
                .chunks(share)
                .zip(&self.connections)
                .map(|(requests, connection)| {
                    scope.spawn(move || {
                        let mut stream = connection.lock().map_err(|_| anyhow!("a sender panicked"))?;
                        requests
                            .iter()
                            .try_for_each(|(method, path, body)| exchange(&mut stream, method, path, body))
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().map_err(|_| anyhow!("a sender panicked")).and_then(|sent| sent)
            })
        })
    }
}

impl ApiServer for RealApi {
    fn write_slices(&self, slices: Vec<(u32, String)>) -> Result<Instant> {
        let mut requests = Vec::new();
        for (service, slice) in slices {
            let path = format!("{}/{}", slices_path(service), objects::slice_name(service, 4));
            requests.push(("PUT", path, plain(&slice)?));
        }
        let written = Instant::now();
        self.send(&requests)?;
        Ok(written)
    }
}

impl Drop for RealApi {
    fn drop(&mut self) {
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

fn slices_path(service: u32) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", objects::namespace(service))
}

/// An object as a client may write it.
fn plain(object: &str) -> Result<String> {
    let mut object: Value = serde_json::from_str(&format!("{{{object}")).context("parse an object")?;
    if let Some(metadata) = object["metadata"].as_object_mut() {
        NOT_OURS.iter().for_each(|name| drop(metadata.remove(*name)));
        if let Some(owner) = metadata.get_mut("labels").and_then(|labels| labels.get_mut(MANAGED_BY)) {
            *owner = "svc-scale".into();
        }
    }
    // Without the selector the controllers make no slices.
    object["spec"].as_object_mut().and_then(|spec| spec.remove("selector"));
    Ok(object.to_string())
}

fn connect(hub: &Netns) -> Result<TcpStream> {
    let stream = wait::until("kubectl proxy answers", Duration::from_secs(10), || {
        hub.within(|| Ok(Some(TcpStream::connect(("127.0.0.1", PORT))?)))
    })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request and its response, which must be successful.
fn exchange(stream: &mut TcpStream, method: &str, path: &str, body: &str) -> Result<()> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut length, mut is_chunked) = (String::new(), 0, false);
    reader.read_line(&mut status)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.to_ascii_lowercase();
        let Some((name, value)) = line.split_once(':') else { break };
        match name {
            "content-length" => length = value.trim().parse()?,
            "transfer-encoding" => is_chunked = value.contains("chunked"),
            _ => {}
        }
    }
    let mut answer = Vec::new();
    if is_chunked {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).context("the size of a chunk")?;
            reader.by_ref().take(size).read_to_end(&mut answer)?;
            reader.read_line(&mut line)?;
            if size == 0 {
                break;
            }
        }
    } else {
        reader.take(length).read_to_end(&mut answer)?;
    }
    let is_good = status.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
    ensure!(is_good, "{method} {path}: {status}{}", String::from_utf8_lossy(&answer));
    Ok(())
}
