//! Answers to load balancers in a played case: the product's own servers, queried by real sockets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use svc_ctl::observe::health::ports::HealthPorts;
use svc_ctl::observe::health::{HealthSettings, Servers};
use svc_ctl::observe::inspect::Inspected;
use svc_ctl::observe::ledger::Ledger;
use svc_ctl::observe::listeners::Listeners;
use svc_ctl::programs::HooksStatus;
use svc_ctl::reconcile::Progress;
use svc_tests::{http, wait};
use tokio::sync::watch;

/// Maximum time until the answers are up to date.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Health {
    _progress: watch::Sender<Progress>,
    ports: watch::Sender<HealthPorts>,
    /// Every port of any case so far.
    seen: BTreeSet<u16>,
    _servers: Servers,
}

impl Health {
    pub fn start() -> Result<Self> {
        let (progress, progress_reader) = watch::channel(Progress::default());
        let (_, hooks) = watch::channel(HooksStatus::default());
        let (ports, ports_reader) = watch::channel(HealthPorts::default());
        // The complaints are not checked here; the sections have refused objects.
        let ledger = Ledger::default();
        let listeners = Listeners::new(ledger.clone());
        let settings = HealthSettings::default();
        let servers = Servers::start(
            &settings,
            progress_reader,
            &hooks,
            ports_reader,
            &ledger,
            listeners,
            Inspected::empty(),
        )?;
        Ok(Self { _progress: progress, ports, seen: BTreeSet::new(), _servers: servers })
    }

    /// Publishes these ports.
    pub fn plan(&self, ports: &HealthPorts) {
        self.ports.send_replace(ports.clone());
    }

    /// One `PORT NAMESPACE/NAME N local` per line: these ports answer so, and no other port is open.
    pub fn check(&mut self, section: &str) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for line in section.lines() {
            let [port, name, count, "local"] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                anyhow::bail!("not understood: {line}");
            };
            let port: u16 = port.parse().with_context(|| format!("no port: {line}"))?;
            let (namespace, name) = name.split_once('/').with_context(|| format!("no Service: {line}"))?;
            let status = if count == "0" { "HTTP/1.1 503" } else { "HTTP/1.1 200" };
            let words = [
                status,
                &format!("\"localEndpoints\": {count},"),
                &format!("\"namespace\": \"{namespace}\""),
                &format!("\"name\": \"{name}\""),
            ];
            wait::until_true(&format!("port {port} says {words:?}"), LIMIT, || {
                let answer = http::get(at(port), "/")?;
                ensure!(words.iter().all(|word| answer.contains(word)), "it says {answer:?}");
                Ok(true)
            })?;
            wanted.insert(port);
        }
        for port in self.seen.difference(&wanted) {
            wait::until_true(&format!("port {port} is closed"), LIMIT, || {
                Ok(http::get(at(*port), "/").is_err())
            })?;
        }
        self.seen.extend(wanted);
        Ok(())
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
