//! Names of other domains: asks the upstream servers, and never this server itself.
//!
//! An upstream may lead back here although no address shows it, for example by a cache on this host that forwards to
//! us. So each upstream is asked for a name that only this server knows. If that query arrives here, the upstream is a
//! loop and is left out.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use hickory_server::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_server::proto::rr::{Name, Record, RecordType};
use tokio::sync::watch;

use super::answer::Answer;
use super::records;
use super::settings::Upstreams;
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::observe::ledger::Ledger;

/// Time for an upstream, all attempts together: stub resolvers ask again after 5 s.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Interval between probes of upstreams for loops.
const PROBE_PERIOD: Duration = Duration::from_secs(60);
/// RFC 6761: no name server knows such names.
const PROBE_DOMAIN: [&str; 3] = ["loop", "svc-dns", "invalid"];

type Pool = NameServerPool<TokioRuntimeProvider>;

pub struct Upstream {
    servers: Vec<SocketAddr>,
    /// Upstreams that lead back here.
    loops: Mutex<BTreeSet<SocketAddr>>,
    /// All others; none if none are left.
    pool: watch::Sender<Option<Pool>>,
    /// In the names of our probes, so that another daemon's are not taken for ours.
    token: String,
}

/// The servers to ask, and complaints about unusable ones.
pub fn servers(upstreams: &Upstreams, listen: &[SocketAddr]) -> (Vec<SocketAddr>, Vec<Complaint>) {
    const FLAG: &str = "--dns-upstream";
    let (mut servers, mut complaints) = match upstreams {
        Upstreams::None => (Vec::new(), Vec::new()),
        Upstreams::Servers(servers) => (servers.clone(), Vec::new()),
        Upstreams::File(path) => {
            let text = std::fs::read(path).map_err(|error| error.to_string());
            let parse = |text| hickory_resolver::system_conf::parse_resolv_conf(text);
            match text.and_then(|text| parse(text).map_err(|error| error.to_string())) {
                Ok((config, _)) => (config.name_servers().iter().flat_map(addresses).collect(), Vec::new()),
                Err(error) => {
                    let complaint = Complaint::new(Kind::Host, FLAG, path.display().to_string(), error);
                    (Vec::new(), vec![complaint])
                }
            }
        }
    };
    let mut seen = BTreeSet::new();
    servers.retain(|server| seen.insert(*server));
    servers.retain(|server| {
        let is_other = !listen.contains(server);
        if !is_other {
            complaints.push(Complaint::new(Kind::Conflict, FLAG, server.to_string(), IS_LOOP));
        }
        is_other
    });
    (servers, complaints)
}

const IS_LOOP: &str = "leads back to this name server, so it is not asked";

fn addresses(server: &NameServerConfig) -> impl Iterator<Item = SocketAddr> {
    server.connections.iter().map(|connection| SocketAddr::new(server.ip, connection.port))
}

fn pool(servers: &[SocketAddr]) -> Option<Pool> {
    if servers.is_empty() {
        return None;
    }
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    let context = PoolContext::new(options, TlsConfig::new().ok()?);
    let config = |server: &SocketAddr| {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        (udp.port, tcp.port) = (server.port(), server.port());
        NameServerConfig::new(server.ip(), true, vec![udp, tcp])
    };
    let provider = TokioRuntimeProvider::default();
    Some(Pool::from_config(servers.iter().map(config), context.into(), provider))
}

impl Upstream {
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        let (pool, _) = watch::channel(pool(&servers));
        let token = format!("{:016x}", fastrand::u64(..));
        Self { servers, loops: Mutex::default(), pool, token }
    }

    /// The answer of the first upstream that answers, or SERVFAIL.
    pub async fn ask(&self, query: Query) -> Answer {
        if let Some(server) = self.probed(&query.name) {
            self.loops.lock().unwrap_or_else(PoisonError::into_inner).insert(server);
            return Answer::empty(ResponseCode::NXDomain);
        }
        let pool = self.pool.borrow().clone();
        match pool {
            Some(pool) => ask(&pool, query).await,
            None => Answer::empty(ResponseCode::ServFail),
        }
    }

    fn probe_name(&self, server: usize) -> Name {
        let labels = [format!("{server}"), self.token.clone()];
        let labels: Vec<&str> = labels.iter().map(String::as_str).chain(PROBE_DOMAIN).collect();
        records::below(&labels, &Name::root())
    }

    /// The server that one of our probes was sent to.
    fn probed(&self, name: &Name) -> Option<SocketAddr> {
        let mut labels = name.iter();
        let number = std::str::from_utf8(labels.next()?).ok()?.parse::<usize>().ok()?;
        let server = self.servers.get(number)?;
        labels.next().filter(|label| label.eq_ignore_ascii_case(self.token.as_bytes()))?;
        (*name == self.probe_name(number)).then_some(*server)
    }

    /// Looks for loops until it is dropped.
    pub async fn watch_loops(&self, ledger: Ledger, complaints: Vec<Complaint>) {
        let mut known = None;
        loop {
            let loops = self.find_loops().await;
            if known.as_ref() != Some(&loops) {
                let others: Vec<SocketAddr> =
                    self.servers.iter().filter(|server| !loops.contains(server)).copied().collect();
                self.pool.send_replace(pool(&others));
                let complain = |server: &SocketAddr| {
                    Complaint::new(Kind::Conflict, "--dns-upstream", server.to_string(), IS_LOOP)
                };
                let found = loops.iter().map(complain);
                ledger.set(Origin::DnsUpstream, complaints.iter().cloned().chain(found).collect());
                known = Some(loops);
            }
            tokio::time::sleep(PROBE_PERIOD).await;
        }
    }

    async fn find_loops(&self) -> BTreeSet<SocketAddr> {
        std::mem::take(&mut *self.loops.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, server) in self.servers.iter().enumerate() {
            if let Some(pool) = pool(&[*server]) {
                // The response does not matter, only whether the query comes back here.
                ask(&pool, Query::query(self.probe_name(number), RecordType::TXT)).await;
            }
        }
        self.loops.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ask(pool: &Pool, query: Query) -> Answer {
    let response = pool.lookup(query, DnsRequestOptions::default()).first_answer().await;
    match response {
        Ok(response) => {
            let message = response.into_message();
            Answer {
                answers: message.answers,
                authorities: message.authorities,
                additionals: message.additionals,
                ..Answer::empty(message.metadata.response_code)
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code, soa, authorities, ..
        }))) => {
            let soa = soa.map(|soa| Record::into_record_of_rdata(*soa)).into_iter();
            let authorities = authorities.map_or_else(|| soa.collect(), |all| all.to_vec());
            Answer { authorities, ..Answer::empty(response_code) }
        }
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Answer::empty(code),
        Err(error) => {
            tracing::debug!(%error, "no upstream answers");
            Answer::empty(ResponseCode::ServFail)
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
