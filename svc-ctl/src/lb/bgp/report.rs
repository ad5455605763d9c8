//! Sessions and announced addresses, for `svc-ctl lb` (a file in the run directory) and for the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::routes::Plan;
use crate::bgp::peer::{PeerStatus, Statuses};
use crate::bgp::session::State;
use crate::bgp::settings::{BgpSettings, Mode, RoutesPlace};
use crate::observe::run_file;

/// Its name in the run directory.
pub const FILE: &str = "bgp.json";

/// All that this node announces by BGP.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpReport {
    pub node: String,
    pub peers: Vec<PeerRow>,
    pub addresses: Vec<AddressRow>,
    /// Place of the kernel's routes, so that they are found when the configuration has another one, or none.
    pub routes: Option<RoutesPlace>,
}

/// A peer of this node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRow {
    pub name: String,
    pub address: IpAddr,
    pub state: State,
    /// Milliseconds since 1970: since when.
    pub since_unix_ms: u64,
    /// Routes that it has of this node.
    pub prefixes: BTreeSet<IpNet>,
    pub last_error: Option<String>,
    /// Why it does not get all routes.
    pub shortcoming: Option<String>,
}

/// An address of a pool that Services have.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressRow {
    pub address: IpAddr,
    /// As namespace/name.
    pub services: BTreeSet<String>,
    /// Prefixes that this node announces for it.
    pub prefixes: BTreeSet<IpNet>,
    /// Peers that have one of them.
    pub peers: BTreeSet<String>,
    /// Why this node does not announce it; empty if it does.
    pub why_not: String,
}

/// Numbers of one peer for the metrics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerCount {
    pub is_established: bool,
    pub prefixes: u64,
    pub updates: u64,
    pub established: u64,
}

/// Numbers of all peers, by name.
pub type PeerCounts = BTreeMap<String, PeerCount>;

impl BgpReport {
    pub fn new(node: &str, bgp: &BgpSettings, plan: &Plan, statuses: &Statuses) -> Self {
        let peers = bgp.peers.iter().filter_map(|peer| {
            let status = statuses.get(&peer.name)?;
            Some(PeerRow {
                name: peer.name.clone(),
                address: peer.address,
                state: status.state,
                since_unix_ms: status.since_unix_ms,
                prefixes: status.routes.keys().copied().collect(),
                last_error: status.last_error.clone(),
                shortcoming: status.shortcoming.clone(),
            })
        });
        let has = |status: &PeerStatus, prefixes: &BTreeSet<IpNet>| {
            prefixes.iter().any(|prefix| status.routes.contains_key(prefix))
        };
        let addresses = plan.addresses.iter().map(|(address, planned)| AddressRow {
            address: *address,
            services: planned.services.clone(),
            prefixes: planned.prefixes.clone(),
            peers: statuses
                .iter()
                .filter(|(_, status)| has(status, &planned.prefixes))
                .map(|(name, _)| name.clone())
                .collect(),
            why_not: planned.why_not.unwrap_or_default().to_owned(),
        });
        Self {
            node: node.to_owned(),
            peers: peers.collect(),
            addresses: addresses.collect(),
            routes: (bgp.mode == Mode::Routes).then_some(bgp.routes),
        }
    }

    /// `None`: no daemon that announces by BGP has written it.
    pub fn read(run_dir: &Path) -> anyhow::Result<Option<Self>> {
        run_file::read(&run_dir.join(FILE))
    }

    pub fn write(&self, run_dir: &Path) -> anyhow::Result<()> {
        run_file::replace(&run_dir.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Removes the report, if there is one.
    pub fn remove(run_dir: &Path) -> anyhow::Result<()> {
        run_file::remove(&run_dir.join(FILE))
    }
}

/// The numbers of all peers.
pub fn counts(statuses: &Statuses) -> PeerCounts {
    let count = |status: &PeerStatus| PeerCount {
        is_established: status.state == State::Established,
        prefixes: status.routes.len() as u64,
        updates: status.updates,
        established: status.established,
    };
    statuses.iter().map(|(name, status)| (name.clone(), count(status))).collect()
}
