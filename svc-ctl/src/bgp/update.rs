//! UPDATE messages: routes that are announced and withdrawn.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::message::{AS_TRANS, HEADER, LONGEST, UNICAST, UPDATE, afi, framed};
use super::route::{Attributes, NextHops};
use super::settings::Community;
use crate::model::name::IpFamily;

/// Types of attributes.
const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const LOCAL_PREF: u8 = 5;
const COMMUNITIES: u8 = 8;
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;
const AS4_PATH: u8 = 17;
const LARGE_COMMUNITIES: u8 = 32;

/// Flags of attributes.
const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

/// ORIGIN: the route comes from within the own autonomous system.
const IGP: u8 = 0;
/// A segment of AS_PATH whose order counts.
const SEQUENCE: u8 = 2;
/// Value of LOCAL_PREF where the configuration has none; routers use the same.
const DEFAULT_PREFERENCE: u32 = 100;
/// Octets of both length fields of an UPDATE.
const LENGTHS: usize = 4;
/// Octets of a prefix at most: its length and an IPv6 address.
const LONGEST_PREFIX: usize = 17;
/// Octets of MP_REACH and MP_UNREACH before their prefixes, at most: header, family, two next hops, reserved.
const MP_HEAD: usize = 4 + 3 + 1 + 32 + 1;

/// The speaker of a session, as its attributes show it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Speaker {
    pub local_as: u32,
    /// Both ends are of the same autonomous system.
    pub is_internal: bool,
    /// Both ends have numbers of four octets.
    pub has_four_octets: bool,
    pub next_hops: NextHops,
}

/// Messages that announce prefixes of one family with equal attributes. None without a next hop of the family.
pub fn announce(
    speaker: &Speaker,
    family: IpFamily,
    attributes: &Attributes,
    prefixes: &[IpNet],
) -> Vec<Vec<u8>> {
    let common = common_attributes(speaker, attributes);
    match (family, speaker.next_hops) {
        (IpFamily::V4, NextHops { v4: Some(hop), .. }) => {
            let all = [common, attribute(TRANSITIVE, NEXT_HOP, &hop.octets())].concat();
            chunks(prefixes, all.len()).map(|chunk| update(&[], &all, &chunk)).collect()
        }
        (IpFamily::V6, NextHops { v6: Some(hop), link_local, .. }) => {
            let head = mp_head(hop, link_local);
            let message = |chunk: Vec<u8>| {
                // RFC 7606: the first attribute, so that a receiver finds the routes if another one is malformed.
                let reach = attribute(OPTIONAL, MP_REACH, &[&head[..], &chunk].concat());
                update(&[], &[reach, common.clone()].concat(), &[])
            };
            chunks(prefixes, common.len() + MP_HEAD).map(message).collect()
        }
        _ => Vec::new(),
    }
}

/// Messages that withdraw prefixes of one family.
pub fn withdraw(family: IpFamily, prefixes: &[IpNet]) -> Vec<Vec<u8>> {
    let message = |chunk: Vec<u8>| match family {
        IpFamily::V4 => update(&chunk, &[], &[]),
        IpFamily::V6 => {
            update(&[], &attribute(OPTIONAL, MP_UNREACH, &[&mp_family()[..], &chunk].concat()), &[])
        }
    };
    chunks(prefixes, MP_HEAD).map(message).collect()
}

/// The message after the last route of a family (RFC 4724, section 2).
pub fn end_of_rib(family: IpFamily) -> Vec<u8> {
    match family {
        IpFamily::V4 => update(&[], &[], &[]),
        IpFamily::V6 => update(&[], &attribute(OPTIONAL, MP_UNREACH, &mp_family()), &[]),
    }
}

const fn mp_family() -> [u8; 3] {
    let [high, low] = afi(IpFamily::V6).to_be_bytes();
    [high, low, UNICAST]
}

fn mp_head(hop: Ipv6Addr, link_local: Option<Ipv6Addr>) -> Vec<u8> {
    let hops =
        [hop.octets().to_vec(), link_local.map(|ip| ip.octets().to_vec()).unwrap_or_default()].concat();
    [&mp_family()[..], &[hops.len() as u8], &hops, &[0]].concat()
}

/// All attributes but those with next hops, in the order of their types.
fn common_attributes(speaker: &Speaker, attributes: &Attributes) -> Vec<u8> {
    let mut all = attribute(TRANSITIVE, ORIGIN, &[IGP]);
    let own = speaker.local_as;
    let path = match (speaker.is_internal, speaker.has_four_octets) {
        (true, _) => Vec::new(),
        (false, true) => [&[SEQUENCE, 1], &own.to_be_bytes()[..]].concat(),
        (false, false) => {
            [&[SEQUENCE, 1], &u16::try_from(own).unwrap_or(AS_TRANS).to_be_bytes()[..]].concat()
        }
    };
    all.extend(attribute(TRANSITIVE, AS_PATH, &path));
    if speaker.is_internal {
        let preference = attributes.local_preference.unwrap_or(DEFAULT_PREFERENCE);
        all.extend(attribute(TRANSITIVE, LOCAL_PREF, &preference.to_be_bytes()));
    }
    let (mut standard, mut large) = (Vec::new(), Vec::new());
    for community in &attributes.communities {
        match community {
            Community::Standard(value) => standard.extend(value.to_be_bytes()),
            Community::Large(global, first, second) => {
                large.extend([global, first, second].into_iter().flat_map(|part| part.to_be_bytes()));
            }
        }
    }
    if !standard.is_empty() {
        all.extend(attribute(OPTIONAL | TRANSITIVE, COMMUNITIES, &standard));
    }
    if !speaker.is_internal && !speaker.has_four_octets && u16::try_from(own).is_err() {
        let path = [&[SEQUENCE, 1], &own.to_be_bytes()[..]].concat();
        all.extend(attribute(OPTIONAL | TRANSITIVE, AS4_PATH, &path));
    }
    if !large.is_empty() {
        all.extend(attribute(OPTIONAL | TRANSITIVE, LARGE_COMMUNITIES, &large));
    }
    all
}

fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    match u8::try_from(value.len()) {
        Ok(length) => [&[flags, kind, length], value].concat(),
        Err(_) => {
            let [high, low] = (value.len() as u16).to_be_bytes();
            [&[flags | EXTENDED_LENGTH, kind, high, low], value].concat()
        }
    }
}

fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| (part.len() as u16).to_be_bytes();
    let body = [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, announced].concat();
    framed(UPDATE, &body)
}

/// Prefixes in octets, as many at once as a message has room for beside `others` octets. The settings limit communities, so that there is
/// room.
fn chunks(prefixes: &[IpNet], others: usize) -> impl Iterator<Item = Vec<u8>> {
    let room = LONGEST.saturating_sub(HEADER + LENGTHS + others);
    prefixes.chunks((room / LONGEST_PREFIX).max(1)).map(|chunk| chunk.iter().flat_map(encode).collect())
}

/// A prefix: its length in bits, and the octets that have them.
fn encode(prefix: &IpNet) -> Vec<u8> {
    let used = usize::from(prefix.prefix_len().div_ceil(8));
    let octets = match prefix.network() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [&[prefix.prefix_len()], &octets[..used]].concat()
}

#[cfg(test)]
mod tests;
