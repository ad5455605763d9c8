//! svc's name server on the loopback address, on a thread of its own as in the daemon.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hickory_server::proto::op::ResponseCode;
use svc_ctl::dns::counts::DnsCounts;
use svc_ctl::dns::server;
use svc_ctl::dns::settings::{DnsSettings, Domain, Upstreams};
use svc_ctl::model::world::World;
use svc_ctl::observe::ledger::Ledger;
use tokio::sync::watch;

use super::ask::{Transport, ask};
use super::free_address;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends when the world's sender is dropped.
#[derive(Debug)]
pub struct SvcDns {
    pub address: SocketAddr,
    _worlds: watch::Sender<World>,
}

impl SvcDns {
    pub fn start(world: World) -> Result<Self> {
        let address = free_address()?;
        let domain: Domain = "cluster.local".parse().map_err(anyhow::Error::msg)?;
        let settings = DnsSettings { listen: vec![address], domain, upstream: Upstreams::None };
        let (worlds, reader) = watch::channel(World::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio")?;
        let asked_for = watch::channel(BTreeSet::new()).1;
        let (counts, ledger) = (DnsCounts::default(), Ledger::default());
        let serve = move || runtime.block_on(server::run(settings, asked_for, reader, counts, ledger));
        thread::Builder::new().name("svc-dns".to_owned()).spawn(serve).context("a thread")?;
        worlds.send_replace(world);
        let ours = Self { address, _worlds: worlds };
        wait::until("svc's name server answers", PATIENCE, || {
            let said = ask(ours.address, "dns-version.cluster.local", "TXT", Transport::Tcp, None);
            Ok(said.ok().filter(|said| said.code == ResponseCode::NoError))
        })?;
        Ok(ours)
    }
}
