//! Entries of frontends: the extent to choose from, and the clients to masquerade (SEM-060 to SEM-066, SEM-081 to
//! SEM-085).

use svc_common::abi::{Extent, FrontendFlags, ServicePortId};

use super::frontends::Claim;
use super::policy::Policy;
use super::tables::FrontendEntry;
use crate::model::service::Selection;

/// The operator's settings of the masquerade.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Masquerade {
    /// Masquerade all clients of ClusterIPs, pods too.
    pub all: bool,
    /// Masquerade packets to backends of this node too, as kube-proxy does. Replies find the client without it, and the
    /// backend then sees the client's address.
    pub to_local: bool,
}

/// The part that all frontends of a service port in one family share.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    pub service: ServicePortId,
    pub policy: Policy,
    pub selection: Option<Selection>,
    pub usable_anywhere: bool,
    pub cluster: Extent,
    pub local: Extent,
    /// Maglev tables over the two.
    pub maglev_cluster: Extent,
    pub maglev_local: Extent,
    /// Seconds.
    pub affinity: u32,
    pub masquerade: Masquerade,
    /// Local pods can be recognised.
    pub knows_pods: bool,
    pub is_node_in_ranges: bool,
}

/// Clients from outside choose by a Maglev table, so that every node chooses the same backend for them.
pub fn has_table(selection: Option<Selection>, claim: &Claim) -> bool {
    selection.map_or(claim.external, |selection| selection == Selection::Maglev)
}

impl Shared {
    /// Clients, or those from outside, choose among endpoints of this node.
    pub const fn is_local(&self, claim: &Claim) -> bool {
        if claim.external { self.policy.external_local } else { self.policy.internal_local }
    }

    /// The entry of one of the frontends.
    pub fn entry(&self, claim: &Claim) -> FrontendEntry {
        let is_local = self.is_local(claim);
        let external_local = claim.external && is_local;
        // At an external frontend either all clients are masqueraded or none (SEM-083, SEM-085). At a ClusterIP a
        // client that is no local pod came through this node, so its replies must come through this node too (SEM-081).
        let (pods, others) = match claim.external {
            true => (!is_local, !is_local),
            false => (self.masquerade.all, self.masquerade.all || self.knows_pods),
        };
        let bits = [
            (self.usable_anywhere, FrontendFlags::USABLE_ELSEWHERE),
            (claim.external, FrontendFlags::EXTERNAL),
            (external_local, FrontendFlags::LOCAL_ONLY),
            (pods, FrontendFlags::MASQUERADE_PODS),
            (others, FrontendFlags::MASQUERADE_OTHERS),
            (others && self.masquerade.to_local, FrontendFlags::MASQUERADE_TO_LOCAL),
            (claim.is_restricted, FrontendFlags::SOURCE_RANGES),
            (claim.is_restricted && self.is_node_in_ranges, FrontendFlags::NODE_IN_RANGES),
        ];
        let set = bits.iter().filter(|(is_set, _)| *is_set);
        let flags = set.fold(FrontendFlags::NONE, |flags, (_, bit)| flags.with(*bit));
        let none = Extent::default();
        let (cluster, local) = match (is_local, claim.external) {
            (false, _) => (self.cluster, none),
            (true, false) => (self.local, none),
            (true, true) => (self.cluster, self.local),
        };
        let maglev = match (has_table(self.selection, claim), is_local) {
            (false, _) => none,
            (true, false) => self.maglev_cluster,
            (true, true) => self.maglev_local,
        };
        FrontendEntry { service: self.service, flags, cluster, local, maglev, affinity: self.affinity }
    }
}
