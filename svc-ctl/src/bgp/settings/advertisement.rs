//! An advertisement: the addresses that are announced to some peers, and their attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::{BgpError, Community};
use crate::lb::pool::{Pool, Pools, Selector};
use crate::model::name::IpFamily;

/// Bits of an address.
const BITS: [u8; 2] = [32, 128];

/// An advertisement as it is written. Empty lists stand for all.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdvertisementSpec {
    #[serde(default)]
    pub pools: BTreeSet<String>,
    #[serde(default)]
    pub peers: BTreeSet<String>,
    #[serde(default)]
    pub service_selectors: Vec<Selector>,
    #[serde(default)]
    pub node_selectors: Vec<Selector>,
    pub aggregation_length: Option<u32>,
    #[serde(rename = "aggregationLengthV6")]
    pub aggregation_length_v6: Option<u32>,
    #[serde(default)]
    pub communities: Vec<String>,
    pub local_preference: Option<u32>,
}

/// An advertisement that can be used. The default announces all pools to all peers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advertisement {
    pools: BTreeSet<String>,
    peers: BTreeSet<String>,
    service_selectors: Vec<Selector>,
    node_selectors: Vec<Selector>,
    /// Lengths of prefixes, of IPv4 and IPv6.
    lengths: [u8; 2],
    pub communities: BTreeSet<Community>,
    /// Only peers of the own autonomous system get it.
    pub local_preference: Option<u32>,
}

impl Default for Advertisement {
    fn default() -> Self {
        Self {
            pools: BTreeSet::new(),
            peers: BTreeSet::new(),
            service_selectors: Vec::new(),
            node_selectors: Vec::new(),
            lengths: BITS,
            communities: BTreeSet::new(),
            local_preference: None,
        }
    }
}

impl Advertisement {
    /// An error has the name of the field.
    pub(super) fn new(
        spec: AdvertisementSpec,
        known_peers: &BTreeSet<String>,
        pools: &Pools,
    ) -> Result<Self, (&'static str, BgpError)> {
        if let Some(name) = spec.peers.difference(known_peers).next() {
            return Err(("peers", BgpError::UnknownPeer(name.clone())));
        }
        let v4 = length(spec.aggregation_length, "IPv4", BITS[0]).map_err(|e| ("aggregationLength", e))?;
        let v6 =
            length(spec.aggregation_length_v6, "IPv6", BITS[1]).map_err(|e| ("aggregationLengthV6", e))?;
        let communities: Result<BTreeSet<Community>, _> =
            spec.communities.iter().map(|text| text.parse()).collect();
        let advertisement = Self {
            pools: spec.pools,
            peers: spec.peers,
            service_selectors: spec.service_selectors,
            node_selectors: spec.node_selectors,
            lengths: [v4, v6],
            communities: communities.map_err(|error| ("communities", error))?,
            local_preference: spec.local_preference,
        };
        advertisement.check_pools(pools)?;
        Ok(advertisement)
    }

    pub fn is_to_peer(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.contains(peer)
    }

    pub fn is_of_pool(&self, pool: &str) -> bool {
        self.pools.is_empty() || self.pools.contains(pool)
    }

    pub fn is_of_service(&self, labels: &BTreeMap<String, String>) -> bool {
        is_selected(&self.service_selectors, labels)
    }

    pub fn is_of_node(&self, labels: &BTreeMap<String, String>) -> bool {
        is_selected(&self.node_selectors, labels)
    }

    /// The announced prefix of an address.
    pub fn prefix(&self, address: IpAddr) -> IpNet {
        let length = self.lengths[usize::from(IpFamily::of(address) == IpFamily::V6)];
        IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |net| net.trunc())
    }

    /// All its pools exist and hold its aggregates whole.
    fn check_pools(&self, pools: &Pools) -> Result<(), (&'static str, BgpError)> {
        if let Some(name) = self.pools.iter().find(|name| pools.iter().all(|pool| pool.name != **name)) {
            return Err(("pools", BgpError::UnknownPool(name.clone())));
        }
        let own = pools.iter().filter(|pool| self.is_of_pool(&pool.name));
        own.into_iter().try_for_each(|pool| self.check_pool(pool))
    }

    fn check_pool(&self, pool: &Pool) -> Result<(), (&'static str, BgpError)> {
        // Inside of a range only the prefixes of its ends can reach beyond it.
        let prefixes = pool.ends().map(|ip| self.prefix(ip));
        match prefixes.into_iter().find(|prefix| !pool.covers(*prefix)) {
            None => Ok(()),
            Some(prefix) => {
                let field = match prefix {
                    IpNet::V4(_) => "aggregationLength",
                    IpNet::V6(_) => "aggregationLengthV6",
                };
                Err((field, BgpError::WiderThanPool(prefix.to_string(), pool.name.clone())))
            }
        }
    }
}

fn is_selected(selectors: &[Selector], labels: &BTreeMap<String, String>) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.selects(labels))
}

fn length(written: Option<u32>, family: &'static str, most: u8) -> Result<u8, BgpError> {
    let Some(written) = written else { return Ok(most) };
    let length = u8::try_from(written).ok().filter(|length| (1..=most).contains(length));
    length.ok_or(BgpError::Length(written, family, most))
}
