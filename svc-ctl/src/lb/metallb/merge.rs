//! The pools of the configuration file and MetalLB's together.
//!
//! A mistake takes no address back: an object that cannot be used counts in its earlier form. If this daemon has seen no
//! earlier form, addresses that no pool has may be the object's, and stay with their Services.

mod sessions;

use std::collections::BTreeMap;

use tokio::sync::watch;

use self::sessions::Sessions;
use super::advertisement::{self, Advertisement};
use super::{Kind, Objects, Read, pool};
use crate::lb::l2::Rules;
use crate::lb::pool::{PoolError, PoolSpec, Pools};
use crate::lb::settings::{Announce, LoadBalancerSettings};
use crate::model::complaint::{Complaint, Origin};
use crate::observe::ledger::Ledger;

/// The forms of objects that were used last.
#[derive(Default)]
pub struct Merge {
    pools: BTreeMap<String, PoolSpec>,
    advertisements: BTreeMap<String, Advertisement>,
    sessions: Sessions,
}

impl Merge {
    /// The settings of the file with MetalLB's objects. The file's pools come first, then MetalLB's, the oldest first.
    pub fn settings(
        &mut self,
        file: &LoadBalancerSettings,
        objects: &Objects,
    ) -> (LoadBalancerSettings, Vec<Complaint>) {
        let mut complaints = Vec::new();
        let (pools, keeps_unknown) = self.pools(&file.pools, objects, &mut complaints);
        let is_of_file = |name: &str| file.pools.iter().any(|pool| pool.name == name);
        let l2 = self.rules(file, objects, &mut complaints);
        let of_metallb = objects.of(Kind::Pool).filter(|(name, _)| !is_of_file(name));
        let used = of_metallb.filter(|(name, _)| pools.iter().any(|pool| pool.name == **name));
        let used = used.map(|(name, object)| (name.as_str(), object)).collect();
        let bgp = self.sessions.settings(file.bgp.as_ref(), objects, &pools, used, &mut complaints);
        let is_known = true;
        let mut settings = LoadBalancerSettings { pools, l2, bgp, keeps_unknown, is_known, ..file.clone() };
        settings.announce = announce(&mut settings, file);
        (settings, complaints)
    }

    /// All pools, and whether an object is left out that may have given addresses.
    fn pools(&mut self, file: &Pools, objects: &Objects, complaints: &mut Vec<Complaint>) -> (Pools, bool) {
        let mut sorted: Vec<_> = objects.of(Kind::Pool).collect();
        sorted.sort_by_key(|(name, object)| (object.created.unwrap_or(i64::MAX), *name));
        let (mut specs, mut keeps_unknown) = (Vec::new(), false);
        for (number, (name, object)) in sorted.iter().enumerate() {
            match usable(pool::read(name, object), self.pools.get(*name).cloned(), complaints) {
                Some(spec) => specs.push((number, spec)),
                None => keeps_unknown = true,
            }
        }
        let name_refused = |number: usize, error: &PoolError| {
            let (name, object) = sorted[number];
            object.complaint(Kind::Pool, name, error.field(), error.to_string())
        };
        let (mut pools, mut refused) = file.clone().with(specs.clone());
        let mut has_earlier = false;
        for (number, error) in &refused {
            let Some((_, spec)) = specs.iter_mut().find(|(known, _)| known == number) else { continue };
            let earlier = self.pools.get(&spec.name).filter(|earlier| *earlier != spec);
            if let Some(earlier) = earlier {
                complaints.push(kept(name_refused(*number, error)));
                *spec = earlier.clone();
                has_earlier = true;
            }
        }
        if has_earlier {
            (pools, refused) = file.clone().with(specs.clone());
        }
        for (number, error) in &refused {
            complaints.push(name_refused(*number, error));
            // The file's pool of the same name has its addresses.
            keeps_unknown |= !matches!(error, PoolError::SecondOfName(_));
        }
        specs.retain(|(number, _)| refused.iter().all(|(other, _)| other != number));
        self.pools = specs.into_iter().map(|(_, spec)| (spec.name.clone(), spec)).collect();
        (pools, keeps_unknown)
    }

    /// MetalLB announces its pools only as advertisements say.
    fn rules(
        &mut self,
        file: &LoadBalancerSettings,
        objects: &Objects,
        complaints: &mut Vec<Complaint>,
    ) -> Rules {
        let mut now = BTreeMap::new();
        for (name, object) in objects.of(Kind::L2Advertisement) {
            let earlier = self.advertisements.get(name).cloned();
            let read = usable(advertisement::read(name, object), earlier, complaints);
            now.extend(read.map(|read| (name.clone(), read)));
        }
        self.advertisements = now;
        let is_of_file = |name: &str| file.pools.iter().any(|pool| pool.name == name);
        let rules = objects.of(Kind::Pool).filter(|(name, _)| !is_of_file(name)).map(|(name, object)| {
            let for_pool = self.advertisements.values().filter(|ad| ad.is_for(name, &object.labels));
            (name.clone(), for_pool.map(|ad| ad.rule.clone()).collect())
        });
        Rules(rules.collect())
    }
}

/// Publishes the settings in force. Runs until a sender is dropped.
pub async fn run(
    mut file: watch::Receiver<LoadBalancerSettings>,
    mut objects: watch::Receiver<Objects>,
    in_force: watch::Sender<LoadBalancerSettings>,
    ledger: Ledger,
) -> anyhow::Result<()> {
    let mut merge = Merge::default();
    loop {
        let (file_now, objects_now) = (file.borrow_and_update().clone(), objects.borrow_and_update().clone());
        if objects_now.are_known() {
            let (settings, complaints) = merge.settings(&file_now, &objects_now);
            ledger.set(Origin::MetalLb, complaints);
            in_force.send_if_modified(|known| std::mem::replace(known, settings.clone()) != settings);
        }
        tokio::select! {
            changed = file.changed() => changed?,
            changed = objects.changed() => changed?,
        }
    }
}

/// MetalLB's pools are announced by what its objects say, and the file's by what the file says.
fn announce(settings: &mut LoadBalancerSettings, file: &LoadBalancerSettings) -> Announce {
    if file.announce == Announce::None {
        return Announce::None;
    }
    let is_by_l2 = file.announce.is_by_l2() || settings.l2.0.values().any(|rules| !rules.is_empty());
    let is_by_bgp = file.announce.is_by_bgp() || settings.bgp.is_some();
    if is_by_l2 && !file.announce.is_by_l2() {
        settings.l2.0.extend(file.pools.iter().map(|pool| (pool.name.clone(), Vec::new())));
    }
    match (is_by_l2, is_by_bgp) {
        (true, true) => Announce::Both,
        (false, true) => Announce::Bgp,
        (_, false) => Announce::L2,
    }
}

/// The contents of an object, or its earlier form if it cannot be read.
fn usable<T>(read: Read<T>, earlier: Option<T>, complaints: &mut Vec<Complaint>) -> Option<T> {
    match read {
        Ok((contents, remarks)) => {
            complaints.extend(remarks);
            Some(contents)
        }
        Err(complaint) => {
            complaints.push(if earlier.is_some() { kept(complaint) } else { complaint });
            earlier
        }
    }
}

fn kept(complaint: Complaint) -> Complaint {
    let reason = format!("{}; its earlier form stays in force", complaint.reason);
    Complaint { reason, ..complaint }
}

#[cfg(test)]
mod tests;
