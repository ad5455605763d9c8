//! The result of both OPEN messages.

use std::collections::BTreeSet;
use std::time::Duration;

use super::SessionOptions;
use crate::bgp::message::Open;
use crate::bgp::notification::Fault;
use crate::bgp::route::{NextHops, Routes, family_of};
use crate::bgp::settings::PeerAs;
use crate::bgp::update::Speaker;
use crate::model::name::IpFamily;

/// Properties of a session that both sides agree on.
#[derive(Debug)]
pub struct Negotiated {
    /// Zero: never times out.
    pub hold: Duration,
    pub keepalive: Option<Duration>,
    /// Families that both sides have.
    pub families: BTreeSet<IpFamily>,
    pub speaker: Speaker,
}

impl Negotiated {
    /// An error if the peer is not the configured one, with the reason for the operator of this side.
    pub fn new(options: &SessionOptions, next_hops: NextHops, peer: &Open) -> Result<Self, (Fault, String)> {
        let is_internal = peer.asn == options.local_as;
        let expected = match options.peer_as {
            PeerAs::Number(number) => (number == peer.asn, number.to_string()),
            PeerAs::Internal => (is_internal, format!("{} (internal)", options.local_as)),
            PeerAs::External => (!is_internal, format!("any but {} (external)", options.local_as)),
        };
        if let (false, expected) = expected {
            return Err((Fault::PeerAs, format!("the peer is of AS {}, expected {expected}", peer.asn)));
        }
        if is_internal && peer.router_id == options.router_id {
            return Err((Fault::Identifier, format!("both sides have the router ID {}", peer.router_id)));
        }
        let hold = options.times.hold.min(Duration::from_secs(peer.hold.into()));
        // A peer without the capability has IPv4 alone.
        let families = peer.families.clone().unwrap_or_else(|| [IpFamily::V4].into());
        Ok(Self {
            hold,
            keepalive: (!hold.is_zero()).then(|| options.times.keepalive.min(hold / 3)),
            families,
            speaker: Speaker {
                local_as: options.local_as,
                is_internal,
                has_four_octets: peer.has_four_octets,
                next_hops,
            },
        })
    }

    /// Routes of the family can be announced.
    pub fn can_announce(&self, family: IpFamily) -> bool {
        self.families.contains(&family) && self.speaker.next_hops.has(family)
    }

    /// Why some of the routes cannot be announced.
    pub fn shortcoming(&self, routes: &Routes) -> Option<String> {
        let lacking = [IpFamily::V4, IpFamily::V6].into_iter().filter_map(|family| {
            let number = routes.keys().filter(|prefix| family_of(prefix) == family).count();
            let why = match (self.families.contains(&family), self.speaker.next_hops.has(family)) {
                _ if number == 0 => return None,
                (true, true) => return None,
                (false, _) => "the peer does not have the family",
                (true, false) => "the node has no address of the family as their next hop",
            };
            Some(format!("{number} {} routes are not announced: {why}", family.label()))
        });
        let lacking: Vec<_> = lacking.collect();
        (!lacking.is_empty()).then(|| lacking.join("; "))
    }
}
