//! The routes that the peer has of this node, and the messages that bring them to others.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::negotiated::Negotiated;
use crate::bgp::route::{Attributes, Routes, family_of};
use crate::bgp::update::{announce, end_of_rib, withdraw};
use crate::model::name::IpFamily;

/// Routes that were sent, and how many messages that took.
#[derive(Debug, Default)]
pub struct Outgoing {
    sent: Routes,
    updates: u64,
}

impl Outgoing {
    pub const fn sent(&self) -> &Routes {
        &self.sent
    }

    pub const fn updates(&self) -> u64 {
        self.updates
    }

    /// The next routes are sent in any case.
    pub fn forget(&mut self, family: IpFamily) {
        self.sent.retain(|prefix, _| family_of(prefix) != family);
    }

    pub fn forget_all(&mut self) {
        self.sent.clear();
    }

    pub fn end_of_rib(&mut self, family: IpFamily) -> Vec<u8> {
        self.updates += 1;
        end_of_rib(family)
    }

    /// Withdrawals come first: packets for these addresses are lost until then.
    pub fn bring_to(&mut self, wanted: &Routes, negotiated: &Negotiated) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        for family in [IpFamily::V4, IpFamily::V6] {
            let is_gone = |prefix: &&IpNet| family_of(prefix) == family && !wanted.contains_key(*prefix);
            let gone: Vec<IpNet> = self.sent.keys().filter(is_gone).copied().collect();
            messages.extend(withdraw(family, &gone));
            gone.iter().for_each(|prefix| drop(self.sent.remove(prefix)));
        }
        for family in [IpFamily::V4, IpFamily::V6].into_iter().filter(|f| negotiated.can_announce(*f)) {
            let mut by_attributes: BTreeMap<&Attributes, Vec<IpNet>> = BTreeMap::new();
            for (prefix, attributes) in wanted.iter().filter(|(prefix, _)| family_of(prefix) == family) {
                if self.sent.get(prefix) != Some(attributes) {
                    by_attributes.entry(attributes).or_default().push(*prefix);
                    self.sent.insert(*prefix, attributes.clone());
                }
            }
            for (attributes, prefixes) in by_attributes {
                messages.extend(announce(&negotiated.speaker, family, attributes, &prefixes));
            }
        }
        self.updates += messages.len() as u64;
        messages
    }
}
