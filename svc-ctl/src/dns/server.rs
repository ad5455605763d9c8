//! Listens by UDP and TCP, and keeps the zone up to date with the world.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use hickory_server::server::Server;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::yield_now;

use super::complaints::Circles;
use super::counts::DnsCounts;
use super::handler::Handler;
use super::settings::DnsSettings;
use super::upstream::{self, Upstream};
use super::zone::{Zone, ZoneSettings};
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::world::World;
use crate::observe::ledger::Ledger;

/// An idle TCP connection is closed after this (RFC 7766 wants some seconds).
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers of one TCP connection that may wait for its client.
const TCP_ANSWERS: usize = 32;
/// Pause after a failure to listen at an address.
const BIND_PAUSE: Duration = Duration::from_secs(1);
/// Services that are indexed before questions get their turn.
const AT_ONCE: usize = 256;

/// Addresses of this host at which Services of the manifests ask for answers, beside those of `--dns`.
pub type AskedFor = watch::Receiver<BTreeSet<SocketAddr>>;

/// Serves until the worlds' publisher is gone. If the addresses change, which is rare, starts a new server.
pub async fn run(
    settings: DnsSettings,
    mut asked_for: AskedFor,
    worlds: watch::Receiver<World>,
    counts: DnsCounts,
    ledger: Ledger,
) -> anyhow::Result<()> {
    loop {
        let mut listen = settings.listen.clone();
        listen.extend(
            asked_for.borrow_and_update().iter().filter(|address| !settings.listen.contains(address)),
        );
        let serve = async {
            if listen.is_empty() {
                return std::future::pending().await;
            }
            let settings = DnsSettings { listen: listen.clone(), ..settings.clone() };
            serve(settings, worlds.clone(), counts.clone(), ledger.clone()).await
        };
        tokio::select! {
            ended = serve => return ended,
            () = changed(&mut asked_for) => {}
        }
        listen.into_iter().for_each(|address| ledger.set(Origin::DnsAddress(address), Vec::new()));
        ledger.set(Origin::DnsUpstream, Vec::new());
        // The tasks of the last server close their sockets.
        yield_now().await;
    }
}

/// Waits for addresses that differ, for ever if no source can ask for any.
async fn changed(asked_for: &mut AskedFor) {
    if asked_for.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn serve(
    settings: DnsSettings,
    worlds: watch::Receiver<World>,
    counts: DnsCounts,
    ledger: Ledger,
) -> anyhow::Result<()> {
    let (servers, complaints) = upstream::servers(&settings.upstream, &settings.listen);
    ledger.set(Origin::DnsUpstream, complaints.clone());
    let upstream = (!servers.is_empty()).then(|| Arc::new(Upstream::new(servers)));
    let zone_settings = ZoneSettings {
        domain: settings.domain.0,
        addresses: settings.listen.iter().map(SocketAddr::ip).collect(),
        is_forwarding: upstream.is_some(),
    };
    let (publish, zone) = watch::channel(None);
    let handler = Handler { settings: zone_settings.clone(), zone, upstream: upstream.clone(), counts };
    let mut server = Server::new(handler);
    let loops = async {
        match upstream {
            Some(upstream) => upstream.watch_loops(ledger.clone(), complaints).await,
            None => std::future::pending().await,
        }
    };
    let listen = async {
        for address in settings.listen {
            let (udp, tcp) = bind(address, &ledger).await;
            server.register_socket(udp);
            server.register_listener(tcp, TCP_IDLE, TCP_ANSWERS);
            tracing::info!(%address, "answering DNS");
        }
        server.block_until_done().await.context("the name server")
    };
    tokio::select! {
        ended = listen => ended,
        ended = follow(worlds, Zone::new(zone_settings), publish, ledger.clone()) => ended,
        () = loops => Ok(()),
    }
}

/// Tries until the address can be had.
async fn bind(address: SocketAddr, ledger: &Ledger) -> (UdpSocket, TcpListener) {
    let origin = || Origin::DnsAddress(address);
    loop {
        match try_bind(address).await {
            Ok(sockets) => {
                ledger.set(origin(), Vec::new());
                return sockets;
            }
            Err(error) => {
                let complaint = Complaint::new(Kind::Failed, "--dns", address.to_string(), error.to_string());
                ledger.set(origin(), vec![complaint]);
                tokio::time::sleep(BIND_PAUSE).await;
            }
        }
    }
}

async fn try_bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?))
}

/// Publishes a zone for each world. The first world is known once every source has listed its objects.
async fn follow(
    mut worlds: watch::Receiver<World>,
    mut zone: Zone,
    publish: watch::Sender<Option<Arc<Zone>>>,
    ledger: Ledger,
) -> anyhow::Result<()> {
    let mut circles = Circles::default();
    loop {
        worlds.changed().await?;
        let world = worlds.borrow_and_update().clone();
        let changed = world.changed_names(&zone.world);
        for (n, name) in changed.iter().enumerate() {
            zone.index(name, &world);
            if n % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        // A change of only the node does not matter for DNS.
        if changed.is_empty() && publish.borrow().is_some() {
            zone.world = world;
            continue;
        }
        zone.replace_world(world, unix_seconds());
        circles.update(&zone, &changed, &ledger);
        publish.send_replace(Some(Arc::new(zone.clone())));
    }
}

fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // A serial number wraps around (RFC 1982).
    since.as_secs() as u32
}

#[cfg(test)]
mod tests;
