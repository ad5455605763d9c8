//! Reads `BGPPeer`, `BGPAdvertisement` and `Community`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use serde_json::Value;

use super::{Kind, Object, Objects, Read};
use crate::bgp::settings::{AdvertisementSpec, PeerSpec};
use crate::lb::selector::Selector;
use crate::model::complaint::Complaint;

const KNOWN_OF_PEER: [&str; 17] = [
    "myASN",
    "peerASN",
    "dynamicASN",
    "localASN",
    "peerAddress",
    "sourceAddress",
    "peerPort",
    "holdTime",
    "keepaliveTime",
    "connectTime",
    "routerID",
    "nodeSelectors",
    "password",
    "ebgpMultiHop",
    "enableGracefulRestart",
    // Without effect in MetalLB as well: both families are announced.
    "disableMP",
    "dualStackAddressFamily",
];
/// Fields without which a session would be another one than is meant, and the reason.
const REFUSED_OF_PEER: [(&str, &str); 3] = [
    ("passwordSecret", "svc reads no Secret: write the peer into svc's file, with passwordFile"),
    ("interface", "svc needs an address: write the peer into svc's file, as fe80::1%interface"),
    ("vrf", "svc has sessions only outside of VRFs"),
];
const KNOWN_OF_ADVERTISEMENT: [&str; 9] = [
    "aggregationLength",
    "aggregationLengthV6",
    "localPref",
    "communities",
    "ipAddressPools",
    "ipAddressPoolSelectors",
    "nodeSelectors",
    "peers",
    "serviceSelectors",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    #[serde(rename = "myASN")]
    my_asn: u32,
    #[serde(rename = "peerASN")]
    peer_asn: Option<u32>,
    #[serde(rename = "dynamicASN")]
    dynamic_asn: Option<String>,
    #[serde(rename = "localASN")]
    local_asn: Option<u32>,
    peer_address: Option<String>,
    source_address: Option<IpAddr>,
    peer_port: Option<u16>,
    hold_time: Option<String>,
    keepalive_time: Option<String>,
    connect_time: Option<String>,
    #[serde(rename = "routerID")]
    router_id: Option<Ipv4Addr>,
    node_selectors: Option<Vec<Selector>>,
    password: Option<String>,
    ebgp_multi_hop: Option<bool>,
    enable_graceful_restart: Option<bool>,
}

/// A peer and the router id that it asks for, and remarks on fields that are not used.
pub fn peer(name: &str, object: &Object) -> Read<(PeerSpec, Option<Ipv4Addr>)> {
    let complaint = |field: &str, reason| object.complaint(Kind::BgpPeer, name, field, reason);
    let refused = |(field, _): &&(&str, &str)| !object.spec.get(field).unwrap_or(&Value::Null).is_null();
    let is_empty = |field: &str| {
        object
            .spec
            .get(field)
            .is_some_and(|value| *value == "" || *value == Value::Object(Default::default()))
    };
    if let Some((field, reason)) = REFUSED_OF_PEER.iter().filter(refused).find(|(field, _)| !is_empty(field))
    {
        return Err(complaint(field, (*reason).to_owned()));
    }
    let spec: Peer = object.read().map_err(|(field, reason)| complaint(&field, reason))?;
    let time = |field: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match seconds(text) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(complaint(field, format!("{text:?} is no duration of whole seconds (1m30s)"))),
        },
    };
    let numbered = spec.peer_asn.filter(|number| *number != 0).map(Value::from);
    let dynamic = spec.dynamic_asn.filter(|text| !text.is_empty()).map(Value::from);
    let names: Vec<&str> = REFUSED_OF_PEER.iter().map(|(field, _)| *field).collect();
    let peer = PeerSpec {
        name: name.to_owned(),
        address: spec.peer_address.unwrap_or_default(),
        port: spec.peer_port.filter(|port| *port != 0),
        peer_as: numbered.or(dynamic),
        local_as: spec.local_asn.filter(|number| *number != 0).or(Some(spec.my_asn)),
        password: spec.password.filter(|text| !text.is_empty()),
        password_file: None,
        hold_time: time("holdTime", &spec.hold_time)?,
        keepalive_time: time("keepaliveTime", &spec.keepalive_time)?,
        connect_retry: time("connectTime", &spec.connect_time)?,
        ebgp_multi_hop: spec.ebgp_multi_hop.unwrap_or(false),
        ttl_security: None,
        source_address: spec.source_address,
        graceful_restart_time: (!spec.enable_graceful_restart.unwrap_or(false)).then_some(0),
        node_selectors: spec.node_selectors.unwrap_or_default(),
    };
    let remarks = object.remarks(Kind::BgpPeer, name, &[&KNOWN_OF_PEER[..], &names].concat());
    Ok(((peer, spec.router_id), remarks))
}

/// The whole seconds of a duration as Go writes it.
fn seconds(text: &str) -> Option<u32> {
    let duration: jiff::SignedDuration = text.parse().ok()?;
    (duration.subsec_nanos() == 0).then(|| u32::try_from(duration.as_secs()).ok()).flatten()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Advertisement {
    aggregation_length: Option<u32>,
    aggregation_length_v6: Option<u32>,
    local_pref: Option<u32>,
    communities: Option<Vec<String>>,
    ip_address_pools: Option<BTreeSet<String>>,
    ip_address_pool_selectors: Option<Vec<Selector>>,
    node_selectors: Option<Vec<Selector>>,
    peers: Option<BTreeSet<String>>,
    service_selectors: Option<Vec<Selector>>,
}

/// Names that an advertisement may use.
pub struct Names<'a> {
    /// MetalLB's pools that are used, and their labels.
    pub pools: Vec<(&'a str, &'a Object)>,
    pub peers: BTreeSet<String>,
    /// Values of communities by their names.
    pub communities: BTreeMap<String, String>,
}

/// An advertisement, and remarks on fields that are not used; `None` if it is for no pool or no peer.
pub fn advertisement(name: &str, object: &Object, names: &Names<'_>) -> Read<Option<AdvertisementSpec>> {
    let kind = Kind::BgpAdvertisement;
    let spec: Advertisement =
        object.read().map_err(|(field, reason)| object.complaint(kind, name, &field, reason))?;
    let written = spec.ip_address_pools.unwrap_or_default();
    let selectors = spec.ip_address_pool_selectors.unwrap_or_default();
    let is_for_all = written.is_empty() && selectors.is_empty();
    let is_for = |(pool, object): &&(&str, &Object)| {
        is_for_all
            || written.contains(*pool)
            || selectors.iter().any(|selector| selector.selects(&object.labels))
    };
    let pools: BTreeSet<String> =
        names.pools.iter().filter(is_for).map(|(pool, _)| (*pool).to_owned()).collect();
    // An empty list would stand for the pools and peers of the file, too.
    let peers = spec.peers.filter(|peers| !peers.is_empty()).unwrap_or_else(|| names.peers.clone());
    let remarks = object.remarks(kind, name, &KNOWN_OF_ADVERTISEMENT);
    if pools.is_empty() || peers.is_empty() {
        return Ok((None, remarks));
    }
    let community = |text: String| names.communities.get(&text).cloned().unwrap_or(text);
    let advertisement = AdvertisementSpec {
        pools,
        peers,
        service_selectors: spec.service_selectors.unwrap_or_default(),
        node_selectors: spec.node_selectors.unwrap_or_default(),
        aggregation_length: spec.aggregation_length,
        aggregation_length_v6: spec.aggregation_length_v6,
        communities: spec.communities.unwrap_or_default().into_iter().map(community).collect(),
        local_preference: spec.local_pref.filter(|preference| *preference != 0),
    };
    Ok((Some(advertisement), remarks))
}

#[derive(Deserialize)]
struct Aliases {
    communities: Option<Vec<Alias>>,
}

#[derive(Deserialize)]
struct Alias {
    name: String,
    value: String,
}

/// Values of communities by the names that `Community` objects give them.
pub fn communities(objects: &Objects, complaints: &mut Vec<Complaint>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, object) in objects.of(Kind::Community) {
        match object.read::<Aliases>() {
            Ok(aliases) => {
                let aliases = aliases.communities.unwrap_or_default();
                all.extend(aliases.into_iter().map(|alias| (alias.name, alias.value)));
            }
            Err((field, reason)) => complaints.push(object.complaint(Kind::Community, name, &field, reason)),
        }
    }
    all
}
