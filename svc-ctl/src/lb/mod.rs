//! LoadBalancer Services without a cloud: address pools, the Service that gets each address, and the node that answers
//! for it.
//!
//! [`allocate`] and [`claim`] decide and are pure; [`announcer`] carries out their decisions.

pub mod allocate;
pub mod announcer;
pub mod bgp;
pub mod claim;
pub mod clock;
pub mod election;
pub mod frames;
pub mod groups;
pub mod l2;
mod link;
pub mod metallb;
mod neighbors;
pub mod pool;
pub mod pulse;
mod range;
pub mod report;
pub mod request;
pub mod selector;
pub mod settings;
pub mod unused;
pub mod usage;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tokio::sync::watch;

use self::claim::Mac;
use self::metallb::Objects;
use self::pulse::Presence;
use self::settings::LoadBalancerSettings;
use self::usage::PoolsUse;

/// Another node, or this one, as the source knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    pub addresses: Vec<IpAddr>,
    /// Its link-layer addresses, if the source knows them.
    pub macs: BTreeSet<Mac>,
    /// It answers heartbeats or renews its Lease, or was not asked long enough to count as down.
    pub is_up: bool,
    /// It has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub is_excluded: bool,
    /// Pools that it may not announce.
    pub refuses: BTreeSet<String>,
}

/// All nodes by name.
pub type Members = BTreeMap<String, Member>;

/// Channels of a source that gives addresses.
#[derive(Clone, Debug)]
pub struct AddressGiver {
    /// Settings in force, as they change.
    pub settings: watch::Receiver<LoadBalancerSettings>,
    /// Settings of the configuration file alone.
    pub file: watch::Receiver<LoadBalancerSettings>,
    pub metallb: watch::Sender<Objects>,
    pub members: watch::Sender<Members>,
    pub usage: watch::Sender<PoolsUse>,
    /// This node, for its Lease; `None` until its interfaces are known.
    pub presence: watch::Receiver<Option<Presence>>,
}
