//! The section `loadBalancer.bgp` of the configuration file: peers, and the addresses that are announced to them.
//!
//! `BgpSpec` is the section as it is written, by a user or by a reader of other objects; [`BgpSettings`] can be used.

mod advertisement;
mod community;
mod password;
mod peer;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

pub use self::advertisement::{Advertisement, AdvertisementSpec};
pub use self::community::Community;
pub use self::password::{Password, PasswordSource};
pub use self::peer::{Distance, HoldTime, Peer, PeerAs, PeerSpec};
use crate::lb::pool::Pools;

/// Routing table and protocol number of `mode: routes`: the port of BGP, which no distribution and no routing daemon uses. FRR imports
/// tables up to 252.
const ROUTES: RoutesPlace = RoutesPlace { table: 179, protocol: 179 };
/// Protocol numbers from here on are for user programs (`linux/rtnetlink.h`, RTPROT_STATIC is 4).
const FIRST_PROTOCOL: u8 = 5;
/// Octets of the communities of all advertisements, which one message of 4096 octets may have to carry.
const MOST_COMMUNITIES: usize = 3_072;
/// Routing tables that are the kernel's own (default, local), or none. Others read the main table (254) too.
const KERNEL_TABLES: [u32; 3] = [0, 253, 255];

/// The section as it is written. Peers and advertisements are read one by one, so that a faulty one is named and the others are used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpSpec {
    #[serde(default)]
    pub mode: Mode,
    #[serde(rename = "localAS")]
    pub local_as: Option<u32>,
    #[serde(rename = "routerID")]
    pub router_id: Option<Ipv4Addr>,
    #[serde(default)]
    pub peers: Vec<serde_json::Value>,
    pub advertisements: Option<Vec<serde_json::Value>>,
    pub routes: Option<RoutesPlace>,
}

/// Method by which routes reach the routers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// svc's own sessions with the peers.
    #[default]
    Sessions,
    /// Routes in a table of the kernel, which FRR or BIRD on the node announces.
    Routes,
}

/// Place of the kernel's routes with `mode: routes`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutesPlace {
    /// Number of the routing table.
    #[serde(default = "default_table")]
    pub table: u32,
    /// The `proto` of `ip route`.
    #[serde(default = "default_protocol")]
    pub protocol: u8,
}

const fn default_table() -> u32 {
    ROUTES.table
}

const fn default_protocol() -> u8 {
    ROUTES.protocol
}

/// The usable part of the section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BgpSettings {
    pub mode: Mode,
    /// `None`: the node's first IPv4 address.
    pub router_id: Option<Ipv4Addr>,
    /// Each has a name of its own.
    pub peers: Vec<Peer>,
    pub advertisements: Vec<Advertisement>,
    pub routes: RoutesPlace,
}

impl Default for BgpSettings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            router_id: None,
            peers: Vec::new(),
            advertisements: vec![Advertisement::default()],
            routes: ROUTES,
        }
    }
}

/// The reason why a field cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BgpError {
    #[error("it is missing")]
    Missing,
    #[error("a second peer of the name {0:?}")]
    SecondOfName(String),
    #[error("a second peer at {0}")]
    SecondOfAddress(String),
    #[error(
        "{0} is no number of an autonomous system that may speak BGP (1 to 4294967294 without 23456 and 65535)"
    )]
    As(u32),
    #[error("{0:?} is neither a number of an autonomous system nor \"internal\" nor \"external\"")]
    PeerAs(String),
    #[error("{0} is no address of a host")]
    Address(String),
    #[error("{0} is of the other family than the peer's address")]
    OtherFamily(String),
    #[error("{0} seconds: it must be 0 (sessions never time out) or 3 to 65535")]
    HoldTime(u32),
    #[error("{0} seconds: it must be at least 1 and less than the hold time of {1} seconds")]
    Keepalive(u32, u32),
    #[error("{0} seconds: it must be 1 to 65535")]
    ConnectRetry(u32),
    #[error("{0} seconds: it must be 0 (off) to 4095")]
    RestartTime(u32),
    #[error("{0} hops: it must be 1 to 254")]
    Hops(u32),
    #[error("it excludes ebgpMultiHop: a limit of hops says as much")]
    TwoDistances,
    #[error("a password has 1 to 80 octets")]
    PasswordLength,
    #[error("it excludes password: one of them has to go")]
    TwoPasswords,
    #[error("{0} bits: an {1} prefix has 1 to {2}")]
    Length(u32, &'static str, u8),
    #[error(
        "{0:?} is neither \"AS:NUMBER\" nor \"large:AS:NUMBER:NUMBER\" nor a well-known community's name"
    )]
    Community(String),
    #[error("all advertisements together have too many communities: {0} octets of {1}")]
    TooManyCommunities(usize, usize),
    #[error("there is no peer {0:?}")]
    UnknownPeer(String),
    #[error("there is no pool {0:?}")]
    UnknownPool(String),
    #[error("{0} has addresses outside of the pool {1:?}: the routers would send them here")]
    WiderThanPool(String, String),
    #[error("table {0} is the kernel's own")]
    Table(u32),
    #[error("protocol {0} is the kernel's own: it must be 5 to 255")]
    Protocol(u8),
    #[error("sessions need localAS, here or in each peer")]
    NoLocalAs,
}

/// A problem, with the path of its field below `loadBalancer.bgp`.
pub type Problem = (String, BgpError);

impl BgpSettings {
    /// Reads the section. Peers and advertisements that cannot be used are named, and the others are used. Texts of serde and
    /// reasons of ours are both errors of a field below `loadBalancer.bgp`.
    pub fn read(section: serde_json::Value, pools: &Pools) -> (Self, Vec<(String, String)>) {
        let spec: BgpSpec = match serde_path_to_error::deserialize(section) {
            Ok(spec) => spec,
            Err(error) => {
                // Without its section nothing is announced.
                let nothing = Self { advertisements: Vec::new(), ..Self::default() };
                return (nothing, vec![(error.path().to_string(), error.into_inner().to_string())]);
            }
        };
        let mut problems = Vec::new();
        let peers = each(spec.peers, "peers", &mut problems);
        let advertisements = match spec.advertisements {
            Some(list) => each(list, "advertisements", &mut problems),
            None => vec![(0, AdvertisementSpec::default())],
        };
        let head = Head {
            mode: spec.mode,
            local_as: spec.local_as,
            router_id: spec.router_id,
            routes: spec.routes.unwrap_or(ROUTES),
        };
        let (settings, refused) = Self::new(head, peers, advertisements, pools);
        problems.extend(refused.into_iter().map(|(field, error)| (field, error.to_string())));
        (settings, problems)
    }

    /// Checks written peers and advertisements, each with its number. The pools of an advertisement must exist, and hold its aggregates
    /// whole.
    pub fn new(
        head: Head,
        peers: Vec<(usize, PeerSpec)>,
        advertisements: Vec<(usize, AdvertisementSpec)>,
        pools: &Pools,
    ) -> (Self, Vec<Problem>) {
        let mut problems: Vec<Problem> = Vec::new();
        let mut usable: Vec<Peer> = Vec::new();
        let known: BTreeSet<String> = peers.iter().map(|(_, peer)| peer.name.clone()).collect();
        if let Err(error) = head.local_as.map_or(Ok(0), peer::checked_as) {
            problems.push(("localAS".to_owned(), error));
        }
        for (number, spec) in peers {
            let at = |field: &str| format!("peers[{number}].{field}");
            match Peer::new(spec, head.local_as) {
                Err((field, error)) => problems.push((at(field), error)),
                Ok(peer) if usable.iter().any(|other| other.name == peer.name) => {
                    problems.push((at("name"), BgpError::SecondOfName(peer.name)));
                }
                Ok(peer) if usable.iter().any(|other| other.endpoint() == peer.endpoint()) => {
                    problems.push((at("address"), BgpError::SecondOfAddress(peer.endpoint().to_string())));
                }
                Ok(peer) => usable.push(peer),
            }
        }
        let (mut announced, mut octets): (Vec<Advertisement>, usize) = (Vec::new(), 0);
        for (number, spec) in advertisements {
            match Advertisement::new(spec, &known, pools) {
                Ok(advertisement) => {
                    octets += advertisement.communities.iter().map(Community::octets).sum::<usize>();
                    if octets > MOST_COMMUNITIES {
                        let error = BgpError::TooManyCommunities(octets, MOST_COMMUNITIES);
                        problems.push((format!("advertisements[{number}].communities"), error));
                    } else {
                        announced.push(advertisement);
                    }
                }
                Err((field, error)) => problems.push((format!("advertisements[{number}].{field}"), error)),
            }
        }
        let mut routes = head.routes;
        if KERNEL_TABLES.contains(&routes.table) {
            problems.push(("routes.table".to_owned(), BgpError::Table(routes.table)));
            routes = ROUTES;
        }
        if routes.protocol < FIRST_PROTOCOL {
            problems.push(("routes.protocol".to_owned(), BgpError::Protocol(routes.protocol)));
            routes = ROUTES;
        }
        let settings = Self {
            mode: head.mode,
            router_id: head.router_id,
            peers: usable,
            advertisements: announced,
            routes,
        };
        (settings, problems)
    }
}

/// The section without its lists.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub mode: Mode,
    pub local_as: Option<u32>,
    pub router_id: Option<Ipv4Addr>,
    pub routes: RoutesPlace,
}

impl Default for Head {
    fn default() -> Self {
        Self { mode: Mode::default(), local_as: None, router_id: None, routes: ROUTES }
    }
}

/// The readable values of a list, with their numbers.
fn each<T: serde::de::DeserializeOwned>(
    list: Vec<serde_json::Value>,
    name: &str,
    problems: &mut Vec<(String, String)>,
) -> Vec<(usize, T)> {
    let mut read = Vec::new();
    for (number, value) in list.into_iter().enumerate() {
        match serde_path_to_error::deserialize(value) {
            Ok(spec) => read.push((number, spec)),
            Err(error) => {
                let field = format!("{name}[{number}].{}", error.path());
                problems.push((field, error.into_inner().to_string()));
            }
        }
    }
    read
}

#[cfg(test)]
mod tests;
