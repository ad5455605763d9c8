//! A router that svc announces addresses to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{BgpError, Password, PasswordSource};
use crate::bgp::message::AS_TRANS;
use crate::lb::pool::Selector;
use crate::model::name::IpFamily;

/// Port of BGP.
const PORT: u16 = 179;
/// Seconds (RFC 4271, section 10).
const HOLD: u32 = 90;
/// Seconds; the longest pause between two attempts to connect.
const CONNECT_RETRY: u32 = 30;
/// Seconds for which a peer keeps the routes of a daemon that restarts. The pull of an image is in it.
const RESTART: u32 = 120;
/// The restart time has twelve bits (RFC 4724).
const LONGEST_RESTART: u32 = 4_095;
/// The shortest hold time that the protocol allows, apart from none.
const SHORTEST_HOLD: u32 = 3;
/// The last numbers of two and four octets are reserved (RFC 7300).
const LAST: [u32; 2] = [65_535, u32::MAX];

/// A peer as it is written. Times are seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerSpec {
    pub name: String,
    /// An address, with `%interface` if it is link-local.
    pub address: String,
    pub port: Option<u16>,
    #[serde(rename = "peerAS")]
    pub peer_as: Option<serde_json::Value>,
    /// Instead of the section's.
    #[serde(rename = "localAS")]
    pub local_as: Option<u32>,
    pub password: Option<String>,
    pub password_file: Option<PathBuf>,
    pub hold_time: Option<u32>,
    pub keepalive_time: Option<u32>,
    pub connect_retry: Option<u32>,
    #[serde(default)]
    pub ebgp_multi_hop: bool,
    /// The greatest number of hops to the peer; packets from farther away are ignored (RFC 5082).
    pub ttl_security: Option<u32>,
    pub source_address: Option<IpAddr>,
    pub graceful_restart_time: Option<u32>,
    #[serde(default)]
    pub node_selectors: Vec<Selector>,
}

/// The autonomous system that a peer must be of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerAs {
    Number(u32),
    /// The own one.
    Internal,
    /// Any but the own one.
    External,
}

/// How far away the peer may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Distance {
    /// By the kind of the session: one hop to another autonomous system, any number within the own one.
    Usual,
    MultiHop,
    /// At most this many hops, which the TTL of received packets proves.
    Security(u8),
}

/// Proposed times; the peers use the shorter hold time of both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HoldTime {
    /// Zero: the session never times out.
    pub hold: Duration,
    /// Pause between two KEEPALIVE messages, if the peer does not want shorter ones.
    pub keepalive: Duration,
}

/// A peer that can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    pub name: String,
    pub address: IpAddr,
    /// Interface of a link-local address.
    pub interface: Option<String>,
    pub port: u16,
    pub peer_as: PeerAs,
    pub local_as: u32,
    pub password: Option<PasswordSource>,
    pub times: HoldTime,
    /// The longest pause between two attempts to connect.
    pub connect_retry: Duration,
    pub distance: Distance,
    pub source: Option<IpAddr>,
    /// Seconds; 0: no graceful restart.
    pub restart_time: u16,
    node_selectors: Vec<Selector>,
}

impl Peer {
    /// An error has the name of the field.
    pub(super) fn new(spec: PeerSpec, section_as: Option<u32>) -> Result<Self, (&'static str, BgpError)> {
        if spec.name.is_empty() {
            return Err(("name", BgpError::Missing));
        }
        let (address, interface) = address(&spec.address).map_err(|error| ("address", error))?;
        let local_as = spec.local_as.or(section_as).ok_or(("localAS", BgpError::NoLocalAs))?;
        let local_as = checked_as(local_as).map_err(|error| ("localAS", error))?;
        let peer_as = peer_as(spec.peer_as.as_ref()).map_err(|error| ("peerAS", error))?;
        let password = password(spec.password, spec.password_file)?;
        let source = match spec.source_address {
            Some(ip) if IpFamily::of(ip) != IpFamily::of(address) => {
                return Err(("sourceAddress", BgpError::OtherFamily(ip.to_string())));
            }
            source => source,
        };
        let distance = match (spec.ebgp_multi_hop, spec.ttl_security) {
            (true, Some(_)) => return Err(("ttlSecurity", BgpError::TwoDistances)),
            (true, None) => Distance::MultiHop,
            (false, None) => Distance::Usual,
            (false, Some(hops)) => match u8::try_from(hops) {
                Ok(hops @ 1..=254) => Distance::Security(hops),
                _ => return Err(("ttlSecurity", BgpError::Hops(hops))),
            },
        };
        let retry = spec.connect_retry.unwrap_or(CONNECT_RETRY);
        if !(1..=u32::from(u16::MAX)).contains(&retry) {
            return Err(("connectRetry", BgpError::ConnectRetry(retry)));
        }
        let restart = spec.graceful_restart_time.unwrap_or(RESTART);
        let too_long = ("gracefulRestartTime", BgpError::RestartTime(restart));
        let restart_time =
            u16::try_from(restart).ok().filter(|_| restart <= LONGEST_RESTART).ok_or(too_long)?;
        Ok(Self {
            name: spec.name,
            address,
            interface,
            port: spec.port.unwrap_or(PORT),
            peer_as,
            local_as,
            password,
            times: HoldTime::new(spec.hold_time, spec.keepalive_time)?,
            connect_retry: Duration::from_secs(retry.into()),
            distance,
            source,
            restart_time,
            node_selectors: spec.node_selectors,
        })
    }

    pub const fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Nodes with these labels have a session with it.
    pub fn is_of_node(&self, labels: &BTreeMap<String, String>) -> bool {
        self.node_selectors.is_empty() || self.node_selectors.iter().any(|selector| selector.selects(labels))
    }
}

impl HoldTime {
    fn new(hold: Option<u32>, keepalive: Option<u32>) -> Result<Self, (&'static str, BgpError)> {
        let hold = hold.unwrap_or(HOLD);
        if hold > u32::from(u16::MAX) || (1..SHORTEST_HOLD).contains(&hold) {
            return Err(("holdTime", BgpError::HoldTime(hold)));
        }
        let pause = keepalive.unwrap_or(hold / 3);
        if hold > 0 && !(1..hold).contains(&pause) {
            return Err(("keepaliveTime", BgpError::Keepalive(pause, hold)));
        }
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Ok(Self { hold: seconds(hold), keepalive: seconds(pause) })
    }
}

pub(super) fn checked_as(number: u32) -> Result<u32, BgpError> {
    match number == 0 || number == u32::from(AS_TRANS) || LAST.contains(&number) {
        true => Err(BgpError::As(number)),
        false => Ok(number),
    }
}

fn peer_as(written: Option<&serde_json::Value>) -> Result<PeerAs, BgpError> {
    let written = written.ok_or(BgpError::Missing)?;
    match (written.as_u64().map(u32::try_from), written.as_str()) {
        (Some(Ok(number)), _) => checked_as(number).map(PeerAs::Number),
        (None, Some("internal")) => Ok(PeerAs::Internal),
        (None, Some("external")) => Ok(PeerAs::External),
        _ => Err(BgpError::PeerAs(written.as_str().map_or_else(|| written.to_string(), str::to_owned))),
    }
}

fn address(text: &str) -> Result<(IpAddr, Option<String>), BgpError> {
    let refused = || BgpError::Address(text.to_owned());
    let (ip, interface) = match text.split_once('%') {
        Some((ip, interface)) => (ip, Some(interface.to_owned())),
        None => (text, None),
    };
    let address: IpAddr = ip.parse().map_err(|_| refused())?;
    let is_link_local = matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let is_of_host = !address.is_unspecified() && !address.is_multicast();
    match is_of_host && is_link_local == interface.is_some() && interface.as_deref() != Some("") {
        true => Ok((address, interface)),
        false => Err(refused()),
    }
}

fn password(
    literal: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<PasswordSource>, (&'static str, BgpError)> {
    match (literal, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(("passwordFile", BgpError::TwoPasswords)),
        (None, Some(path)) => Ok(Some(PasswordSource::File(path))),
        (Some(text), None) => {
            let password = Password::new(text).map_err(|error| ("password", error))?;
            Ok(Some(PasswordSource::Literal(password)))
        }
    }
}
