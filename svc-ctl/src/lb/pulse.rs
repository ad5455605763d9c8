//! The nodes that are alive, by the Leases that they renew. Pure.
//!
//! Time passes only while this node's own renewals arrive by the same watch. So a node that does not reach the API server, and a
//! cluster without one, take no other node for dead.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::claim::{Mac, Millis};
use super::{Member, Members};

/// Pause between two renewals of a node's Lease.
pub const PERIOD: Millis = 1_000;
/// A node that has not renewed its Lease for this long is not up.
pub const DURATION: Millis = 3_000;
/// The longest time that one renewal adds to the clock. So after an interruption the other nodes have as long as this
/// one to come back.
const LONGEST_STEP: Millis = 1_500;

/// A node as its Lease describes it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Presence {
    /// Addresses of uplinks with carrier.
    pub addresses: BTreeSet<IpAddr>,
    /// Link-layer addresses of its uplinks.
    pub macs: BTreeSet<Mac>,
    /// It has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    pub is_excluded: bool,
    /// Pools that it may not announce.
    pub refuses: BTreeSet<String>,
}

/// One read Lease.
#[derive(Clone, Debug)]
pub struct Beat {
    pub node: String,
    /// Changes with each renewal.
    pub renewed: String,
    pub presence: Presence,
}

#[derive(Debug)]
struct Last {
    at: Millis,
    beat: Beat,
}

/// All nodes' Leases.
#[derive(Debug)]
pub struct Pulse {
    node: String,
    /// Time that has passed here.
    clock: Millis,
    own: Option<Millis>,
    last: BTreeMap<String, Last>,
}

impl Pulse {
    pub const fn new(node: String) -> Self {
        Self { node, clock: 0, own: None, last: BTreeMap::new() }
    }

    /// A Lease was read, for the first time or again.
    pub fn beat(&mut self, beat: Beat, now: Millis) {
        let is_same = self.last.get(&beat.node).is_some_and(|last| last.beat.renewed == beat.renewed);
        if is_same {
            return;
        }
        if beat.node == self.node {
            let passed = self.own.map_or(0, |own| now.saturating_sub(own));
            self.clock += passed.min(LONGEST_STEP);
            self.own = Some(now);
        }
        self.last.insert(beat.node.clone(), Last { at: self.clock, beat });
    }

    /// A Lease was deleted.
    pub fn remove(&mut self, node: &str) {
        self.last.remove(node);
    }

    /// Only these nodes have Leases.
    pub fn retain(&mut self, nodes: &BTreeSet<String>) {
        self.last.retain(|node, _| nodes.contains(node));
    }

    /// All nodes; `None` until this node is one of them.
    pub fn members(&self) -> Option<Members> {
        self.last.contains_key(&self.node).then(|| {
            let member = |last: &Last| Member {
                addresses: last.beat.presence.addresses.iter().copied().collect(),
                macs: last.beat.presence.macs.clone(),
                is_up: self.clock - last.at <= DURATION,
                is_excluded: last.beat.presence.is_excluded,
                refuses: last.beat.presence.refuses.clone(),
            };
            self.last.iter().map(|(node, last)| (node.clone(), member(last))).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(pulse: &mut Pulse, node: &str, renewed: u64) {
        let beat =
            Beat { node: node.to_owned(), renewed: renewed.to_string(), presence: Presence::default() };
        pulse.beat(beat, renewed);
    }

    fn up(pulse: &Pulse) -> Vec<String> {
        let members = pulse.members().unwrap_or_default();
        members.into_iter().filter(|(_, member)| member.is_up).map(|(node, _)| node).collect()
    }

    #[test]
    fn sem_310_a_node_that_renews_no_longer_is_down_after_its_lease() {
        let mut pulse = Pulse::new("a".to_owned());
        beat(&mut pulse, "b", 0);
        assert_eq!(pulse.members(), None);
        for (now, expected) in
            [(0, "a b"), (1_000, "a b"), (2_000, "a b"), (3_000, "a b"), (4_000, "a"), (5_000, "a")]
        {
            beat(&mut pulse, "a", now);
            // A list shows the same Lease once more.
            beat(&mut pulse, "b", 0);
            assert_eq!(up(&pulse).join(" "), expected, "at {now}");
        }
        beat(&mut pulse, "b", 5_500);
        assert_eq!(up(&pulse), ["a", "b"]);
        pulse.remove("b");
        assert_eq!(up(&pulse), ["a"]);
    }

    #[test]
    fn without_the_api_server_every_node_stays_as_it_was() {
        let mut pulse = Pulse::new("a".to_owned());
        for node in ["a", "b", "c"] {
            beat(&mut pulse, node, 0);
        }
        // An hour later it is back: first for this node, then for b, and for c never.
        let back = 3_600_000;
        for (now, expected) in [(0, "a b c"), (1_000, "a b c"), (2_000, "a b"), (3_000, "a b")] {
            beat(&mut pulse, "a", back + now);
            if now == 1_000 {
                beat(&mut pulse, "b", back + now);
            }
            assert_eq!(up(&pulse).join(" "), expected, "{now} after it is back");
        }
    }
}
