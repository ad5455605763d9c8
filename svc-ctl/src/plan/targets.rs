//! The id of each target, and the target of each id. The ids are hashed by their targets, so that a target is kept once.

use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashTable};
use svc_common::abi::BackendId;

use super::backend_map::BackendMap;

/// An address and port, before it has an id.
pub type Target = (IpAddr, u16);

#[derive(Clone, Debug, Default)]
pub struct Targets {
    by_target: HashTable<BackendId>,
    by_id: BackendMap<Target>,
    hasher: DefaultHashBuilder,
}

impl Targets {
    pub fn id(&self, target: &Target) -> Option<BackendId> {
        self.by_target.find(self.hasher.hash_one(target), |id| self.by_id.get(id) == Some(target)).copied()
    }

    pub fn target(&self, id: BackendId) -> Option<Target> {
        self.by_id.get(&id).copied()
    }

    /// Gives the target this id. An earlier id of the target no longer leads to it.
    pub fn insert(&mut self, target: Target, id: BackendId) {
        self.remove(&target);
        self.by_id.insert(id, target);
        let Self { by_target, by_id, hasher } = self;
        by_target.insert_unique(hasher.hash_one(target), id, |id| {
            by_id.get(id).map_or(0, |target| hasher.hash_one(target))
        });
    }

    /// The id that the target had.
    pub fn remove(&mut self, target: &Target) -> Option<BackendId> {
        let Self { by_target, by_id, hasher } = self;
        let found = by_target.find_entry(hasher.hash_one(target), |id| by_id.get(id) == Some(target)).ok()?;
        let (id, _) = found.remove();
        by_id.remove(&id);
        Some(id)
    }
}

impl FromIterator<(Target, BackendId)> for Targets {
    fn from_iter<I: IntoIterator<Item = (Target, BackendId)>>(entries: I) -> Self {
        let mut targets = Self::default();
        entries.into_iter().for_each(|(target, id)| targets.insert(target, id));
        targets
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn target(n: u16) -> Target {
        (Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8).into(), 80)
    }

    #[test]
    fn a_target_has_one_id_and_an_id_one_target() {
        let mut targets: Targets = (1..=1_000).map(|n| (target(n), BackendId(u32::from(n)))).collect();
        assert!((1..=1_000).all(|n| targets.id(&target(n)) == Some(BackendId(u32::from(n)))));
        assert_eq!(
            (targets.target(BackendId(7)), targets.remove(&target(7))),
            (Some(target(7)), Some(BackendId(7)))
        );
        assert_eq!((targets.id(&target(7)), targets.target(BackendId(7))), (None, None));
        targets.insert(target(8), BackendId(2_000));
        assert_eq!((targets.id(&target(8)), targets.target(BackendId(8))), (Some(BackendId(2_000)), None));
    }
}
