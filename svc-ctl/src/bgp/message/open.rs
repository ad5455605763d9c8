//! The OPEN message and its capabilities: routes of several families (RFC 4760), numbers of autonomous systems of four octets
//! (RFC 6793), graceful restart (RFC 4724), route refresh (RFC 2918).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::{AS_TRANS, UNICAST, afi, family_of};
use crate::bgp::notification::Fault;
use crate::model::name::IpFamily;

const VERSION: u8 = 4;
/// Optional parameter with capabilities.
const CAPABILITIES: u8 = 2;
/// Type and length of optional parameters whose lengths have two octets (RFC 9072).
const EXTENDED: u8 = 255;

const MULTIPROTOCOL: u8 = 1;
const REFRESH: u8 = 2;
const RESTART: u8 = 64;
const FOUR_OCTETS: u8 = 65;

/// First bit of the flags of graceful restart: the speaker has restarted.
const RESTARTED: u16 = 0x8000;
/// First bit of a family's flags: its routes were in use meanwhile.
const PRESERVED: u8 = 0x80;
/// Twelve bits, in seconds.
const RESTART_TIME: u16 = 0x0FFF;

/// The offer of one speaker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    pub asn: u32,
    /// Seconds.
    pub hold: u16,
    pub router_id: Ipv4Addr,
    /// `None`: no capability of families, which means IPv4. Families that this speaker does not have are left out.
    pub families: Option<BTreeSet<IpFamily>>,
    pub has_four_octets: bool,
    pub is_refreshing: bool,
    pub restart: Option<Restart>,
}

/// Capability of graceful restart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Restart {
    /// The speaker has restarted, and does not wait for routes before it sends its own.
    pub has_restarted: bool,
    /// Seconds until the speaker is back.
    pub time: u16,
    /// Families that it restarts gracefully, and whether their routes were in use meanwhile.
    pub families: BTreeMap<IpFamily, bool>,
}

impl Open {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut capabilities = Vec::new();
        let mut add = |code: u8, value: &[u8]| {
            capabilities.extend([code, value.len() as u8]);
            capabilities.extend(value);
        };
        for family in self.families.iter().flatten() {
            let [high, low] = afi(*family).to_be_bytes();
            add(MULTIPROTOCOL, &[high, low, 0, UNICAST]);
        }
        if self.is_refreshing {
            add(REFRESH, &[]);
        }
        if let Some(restart) = &self.restart {
            let restarted = if restart.has_restarted { RESTARTED } else { 0 };
            let mut value = (restarted | (restart.time & RESTART_TIME)).to_be_bytes().to_vec();
            for (family, is_preserved) in &restart.families {
                value.extend(afi(*family).to_be_bytes());
                value.extend([UNICAST, if *is_preserved { PRESERVED } else { 0 }]);
            }
            add(RESTART, &value);
        }
        if self.has_four_octets {
            add(FOUR_OCTETS, &self.asn.to_be_bytes());
        }
        let mut body = vec![VERSION];
        body.extend(u16::try_from(self.asn).unwrap_or(AS_TRANS).to_be_bytes());
        body.extend(self.hold.to_be_bytes());
        body.extend(self.router_id.octets());
        match capabilities.len() {
            0 => body.push(0),
            // At most two families: 2 * 6 + 2 + 12 + 6 octets.
            length => body.extend([length as u8 + 2, CAPABILITIES, length as u8]),
        }
        body.extend(capabilities);
        body
    }

    /// The body has at least ten octets.
    pub(super) fn decode(body: &[u8]) -> Result<Self, Fault> {
        let Some((head, parameters)) = body.split_first_chunk::<10>() else { return Err(Fault::Open) };
        if head[0] != VERSION {
            return Err(Fault::Version);
        }
        let mut open = Self {
            asn: u16::from_be_bytes([head[1], head[2]]).into(),
            hold: u16::from_be_bytes([head[3], head[4]]),
            router_id: Ipv4Addr::new(head[5], head[6], head[7], head[8]),
            families: None,
            has_four_octets: false,
            is_refreshing: false,
            restart: None,
        };
        let mut rest = match (head[9], parameters) {
            (EXTENDED, [EXTENDED, high, low, rest @ ..]) => Parameters {
                octets: exactly(rest, u16::from_be_bytes([*high, *low]).into())?,
                is_extended: true,
            },
            (length, rest) => Parameters { octets: exactly(rest, length.into())?, is_extended: false },
        };
        while let Some((kind, value)) = rest.next()? {
            if kind != CAPABILITIES {
                return Err(Fault::OptionalParameter);
            }
            open.take_capabilities(value)?;
        }
        if matches!(open.hold, 1 | 2) {
            return Err(Fault::HoldTime);
        }
        if open.asn == 0 {
            return Err(Fault::PeerAs);
        }
        if open.router_id.is_unspecified() {
            return Err(Fault::Identifier);
        }
        Ok(open)
    }

    fn take_capabilities(&mut self, mut octets: &[u8]) -> Result<(), Fault> {
        while let [code, length, rest @ ..] = octets {
            let (value, after) = rest.split_at_checked(usize::from(*length)).ok_or(Fault::Open)?;
            octets = after;
            match (*code, value) {
                (MULTIPROTOCOL, [high, low, _, safi]) => {
                    let families = self.families.get_or_insert_default();
                    families.extend(family_of(u16::from_be_bytes([*high, *low]), *safi));
                }
                (REFRESH, []) => self.is_refreshing = true,
                (RESTART, [high, low, families @ ..]) if families.len().is_multiple_of(4) => {
                    let flags = u16::from_be_bytes([*high, *low]);
                    let of = |f: &[u8]| {
                        let family = family_of(u16::from_be_bytes([f[0], f[1]]), f[2])?;
                        Some((family, f[3] & PRESERVED != 0))
                    };
                    self.restart = Some(Restart {
                        has_restarted: flags & RESTARTED != 0,
                        time: flags & RESTART_TIME,
                        families: families.chunks_exact(4).filter_map(of).collect(),
                    });
                }
                (FOUR_OCTETS, [a, b, c, d]) => {
                    (self.asn, self.has_four_octets) = (u32::from_be_bytes([*a, *b, *c, *d]), true);
                }
                (MULTIPROTOCOL | REFRESH | RESTART | FOUR_OCTETS, _) => return Err(Fault::Open),
                // Capabilities that this speaker does not know are the peer's business (RFC 5492).
                _ => {}
            }
        }
        match octets {
            [] => Ok(()),
            _ => Err(Fault::Open),
        }
    }
}

fn exactly(octets: &[u8], length: usize) -> Result<&[u8], Fault> {
    if octets.len() == length { Ok(octets) } else { Err(Fault::Open) }
}

/// Optional parameters that are still to be read.
struct Parameters<'a> {
    octets: &'a [u8],
    is_extended: bool,
}

impl<'a> Parameters<'a> {
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Fault> {
        let (kind, length, rest) = match (self.is_extended, self.octets) {
            (_, []) => return Ok(None),
            (false, [kind, length, rest @ ..]) => (*kind, usize::from(*length), rest),
            (true, [kind, high, low, rest @ ..]) => {
                (*kind, usize::from(u16::from_be_bytes([*high, *low])), rest)
            }
            _ => return Err(Fault::Open),
        };
        let (value, after) = rest.split_at_checked(length).ok_or(Fault::Open)?;
        self.octets = after;
        Ok(Some((kind, value)))
    }
}
