//! Messages of BGP but UPDATE, which this speaker only sends (`super::update`).

mod open;

use super::notification::{Fault, Notification};
use crate::model::name::IpFamily;

pub use self::open::{Open, Restart};

/// Octets of a message's header: marker, length and type.
pub const HEADER: usize = 19;
/// Octets of the longest message.
pub const LONGEST: usize = 4_096;
/// Stands for the number of an autonomous system that has four octets where there is room for two (RFC 6793).
pub const AS_TRANS: u16 = 23_456;
/// Subsequent address family of unicast routes.
pub const UNICAST: u8 = 1;

const OPEN: u8 = 1;
pub(super) const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// A received message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    Open(Open),
    /// Its routes are not accepted, so they are not read.
    Update,
    Notification(Notification),
    Keepalive,
    /// The peer wants all routes of a family again; `None`: of a family that this speaker does not have.
    RouteRefresh(Option<IpFamily>),
}

/// Number of an address family (IANA, Address Family Numbers).
pub const fn afi(family: IpFamily) -> u16 {
    match family {
        IpFamily::V4 => 1,
        IpFamily::V6 => 2,
    }
}

/// The family, if it is unicast routes of IPv4 or IPv6.
pub(super) const fn family_of(afi: u16, safi: u8) -> Option<IpFamily> {
    match (afi, safi) {
        (1, UNICAST) => Some(IpFamily::V4),
        (2, UNICAST) => Some(IpFamily::V6),
        _ => None,
    }
}

impl Message {
    /// Reads one message from the head of the octets, with the number of octets that it has. `None`: more are needed. All numbers are
    /// in network order.
    pub fn decode(octets: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        let Some((header, _)) = octets.split_first_chunk::<HEADER>() else {
            // Nonsense is found without waiting for a whole header of it.
            let marker = &octets[..octets.len().min(16)];
            return if marker.iter().all(|octet| *octet == 0xFF) {
                Ok(None)
            } else {
                Err(Fault::NotSynchronized)
            };
        };
        if header[..16] != [0xFF; 16] {
            return Err(Fault::NotSynchronized);
        }
        let (written, kind) = (u16::from_be_bytes([header[16], header[17]]), header[18]);
        let length = usize::from(written);
        let shortest = match kind {
            OPEN => HEADER + 10,
            UPDATE => HEADER + 4,
            NOTIFICATION => HEADER + 2,
            KEEPALIVE => HEADER,
            ROUTE_REFRESH => HEADER + 4,
            _ => return Err(Fault::MessageType(kind)),
        };
        let is_fixed = matches!(kind, KEEPALIVE | ROUTE_REFRESH);
        if length < shortest || length > LONGEST || (is_fixed && length != shortest) {
            return Err(Fault::Length(written));
        }
        let Some(body) = octets.get(HEADER..length) else { return Ok(None) };
        let message = match (kind, body) {
            (OPEN, body) => Self::Open(Open::decode(body)?),
            (NOTIFICATION, [code, subcode, data @ ..]) => {
                Self::Notification(Notification { code: *code, subcode: *subcode, data: data.to_vec() })
            }
            (ROUTE_REFRESH, [high, low, _, safi, ..]) => {
                Self::RouteRefresh(family_of(u16::from_be_bytes([*high, *low]), *safi))
            }
            (UPDATE, body) => check_update(body).map(|()| Self::Update)?,
            _ => Self::Keepalive,
        };
        Ok(Some((message, length)))
    }

    /// Its octets.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Open(open) => framed(OPEN, &open.encode()),
            Self::Notification(Notification { code, subcode, data }) => framed(
                NOTIFICATION,
                &[&[*code, *subcode], &data[..data.len().min(LONGEST - HEADER - 2)]].concat(),
            ),
            Self::Keepalive => framed(KEEPALIVE, &[]),
            Self::Update => framed(UPDATE, &[0; 4]),
            Self::RouteRefresh(family) => {
                let [high, low] = family.map_or(0, afi).to_be_bytes();
                framed(ROUTE_REFRESH, &[high, low, 0, UNICAST])
            }
        }
    }
}

/// A message with its header. The caller keeps to [`LONGEST`].
pub(super) fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u16;
    [&[0xFF; 16], &length.to_be_bytes()[..], &[kind], body].concat()
}

/// The lengths of an UPDATE are consistent. Errors within its attributes concern only routes (RFC 7606), and none is accepted.
fn check_update(body: &[u8]) -> Result<(), Fault> {
    let part = |octets: &[u8]| -> Option<usize> {
        let (length, rest) = octets.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        (rest.len() >= length).then_some(2 + length)
    };
    let withdrawn = part(body).ok_or(Fault::AttributeList)?;
    part(&body[withdrawn..]).ok_or(Fault::AttributeList).map(drop)
}

#[cfg(test)]
mod tests;
