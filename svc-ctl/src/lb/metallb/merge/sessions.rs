//! MetalLB's peers and advertisements of BGP, beside those of the configuration file.

use std::collections::BTreeMap;

use super::{kept, usable};
use crate::bgp::settings::{AdvertisementSpec, BgpSettings, Head, PeerSpec};
use crate::lb::metallb::bgp::{self, Names};
use crate::lb::metallb::{Kind, Object, Objects};
use crate::lb::pool::Pools;
use crate::model::complaint::Complaint;

/// MetalLB's names of fields whose names differ in svc's file.
const FIELDS: [(&str, &str); 7] = [
    ("address", "peerAddress"),
    ("peerAS", "peerASN"),
    ("localAS", "myASN"),
    ("connectRetry", "connectTime"),
    ("gracefulRestartTime", "enableGracefulRestart"),
    ("pools", "ipAddressPools"),
    ("localPreference", "localPref"),
];

/// The forms of objects that were used last.
#[derive(Default)]
pub struct Sessions {
    peers: BTreeMap<String, PeerSpec>,
    advertisements: BTreeMap<String, AdvertisementSpec>,
}

/// Objects of one kind, each with its written or its earlier form.
struct Forms<'a, S> {
    kind: Kind,
    prefix: &'static str,
    objects: Vec<(&'a String, &'a Object)>,
    specs: Vec<(usize, S)>,
}

impl<S: Clone> Forms<'_, S> {
    /// The object that a problem is about, and the field.
    fn of_problem(&self, field: &str) -> Option<(usize, String)> {
        let rest = field.strip_prefix(self.prefix)?.strip_prefix('[')?;
        let (number, field) = rest.split_once("].")?;
        let known = FIELDS.iter().find(|(own, _)| *own == field);
        Some((number.parse().ok()?, known.map_or(field, |(_, metallb)| *metallb).to_owned()))
    }

    fn complaint(&self, number: usize, field: &str, reason: &str) -> Complaint {
        let (name, object) = self.objects[number];
        object.complaint(self.kind, name, field, reason.to_owned())
    }

    /// Returns true if the object counts in an earlier form now.
    fn go_back(&mut self, number: usize, earlier: &BTreeMap<String, S>) -> bool {
        let Some(form) = earlier.get(self.objects[number].0) else { return false };
        for (_, spec) in self.specs.iter_mut().filter(|(known, _)| *known == number) {
            spec.clone_from(form);
        }
        true
    }

    fn by_name(self) -> BTreeMap<String, S> {
        self.specs.into_iter().map(|(number, spec)| (self.objects[number].0.clone(), spec)).collect()
    }
}

impl Sessions {
    /// The file's settings with MetalLB's sessions; `None` if there are none at all.
    pub fn settings(
        &mut self,
        file: Option<&BgpSettings>,
        objects: &Objects,
        pools: &Pools,
        of_metallb: Vec<(&str, &Object)>,
        complaints: &mut Vec<Complaint>,
    ) -> Option<BgpSettings> {
        let mut router_id = file.and_then(|file| file.router_id);
        let mut peers = self.read_peers(objects, &mut router_id, complaints);
        let names = Names {
            pools: of_metallb,
            peers: peers.specs.iter().map(|(_, peer)| peer.name.clone()).collect(),
            communities: bgp::communities(objects, complaints),
        };
        let mut advertisements = self.read_advertisements(objects, &names, complaints);
        let read = |peers: &Forms<'_, PeerSpec>, advertisements: &Forms<'_, AdvertisementSpec>| {
            let head = Head { router_id, ..Head::default() };
            BgpSettings::new(head, peers.specs.clone(), advertisements.specs.clone(), pools)
        };
        let (mut settings, mut problems) = read(&peers, &advertisements);
        let mut has_earlier = false;
        for (field, error) in &problems {
            let found = peers.of_problem(field).filter(|(number, _)| peers.go_back(*number, &self.peers));
            let complaint = found.map(|(number, field)| peers.complaint(number, &field, &error.to_string()));
            let found = advertisements.of_problem(field);
            let found = found.filter(|(number, _)| advertisements.go_back(*number, &self.advertisements));
            let other =
                found.map(|(number, field)| advertisements.complaint(number, &field, &error.to_string()));
            has_earlier |= complaint.is_some() || other.is_some();
            complaints.extend(complaint.or(other).map(kept));
        }
        if has_earlier {
            (settings, problems) = read(&peers, &advertisements);
        }
        for (field, error) in &problems {
            if let Some((number, field)) = peers.of_problem(field) {
                complaints.push(peers.complaint(number, &field, &error.to_string()));
                peers.specs.retain(|(known, _)| *known != number);
            } else if let Some((number, field)) = advertisements.of_problem(field) {
                complaints.push(advertisements.complaint(number, &field, &error.to_string()));
                advertisements.specs.retain(|(known, _)| *known != number);
            }
        }
        (self.peers, self.advertisements) = (peers.by_name(), advertisements.by_name());
        self.beside(file, settings, complaints)
    }

    /// The file's peers come first.
    fn beside(
        &self,
        file: Option<&BgpSettings>,
        metallb: BgpSettings,
        complaints: &mut Vec<Complaint>,
    ) -> Option<BgpSettings> {
        let Some(file) = file else { return (!metallb.peers.is_empty()).then_some(metallb) };
        let mut all = BgpSettings { router_id: file.router_id.or(metallb.router_id), ..file.clone() };
        for peer in metallb.peers {
            match file.peers.iter().find(|own| own.name == peer.name || own.endpoint() == peer.endpoint()) {
                Some(own) => complaints.push(Complaint::refused(
                    format!("{} {}", Kind::BgpPeer.name(), peer.name),
                    "spec.peerAddress",
                    format!("svc's file has the peer {:?} of this name or at this address", own.name),
                )),
                None => all.peers.push(peer),
            }
        }
        all.advertisements.extend(metallb.advertisements);
        Some(all)
    }

    fn read_peers<'a>(
        &self,
        objects: &'a Objects,
        router_id: &mut Option<std::net::Ipv4Addr>,
        complaints: &mut Vec<Complaint>,
    ) -> Forms<'a, PeerSpec> {
        let objects: Vec<_> = objects.of(Kind::BgpPeer).collect();
        let mut specs = Vec::new();
        for (number, (name, object)) in objects.iter().enumerate() {
            let earlier = self.peers.get(*name).map(|earlier| (earlier.clone(), None));
            if let Some((peer, id)) = usable(bgp::peer(name, object), earlier, complaints) {
                *router_id = router_id.or(id);
                specs.push((number, peer));
            }
        }
        Forms { kind: Kind::BgpPeer, prefix: "peers", objects, specs }
    }

    fn read_advertisements<'a>(
        &self,
        objects: &'a Objects,
        names: &Names<'_>,
        complaints: &mut Vec<Complaint>,
    ) -> Forms<'a, AdvertisementSpec> {
        let objects: Vec<_> = objects.of(Kind::BgpAdvertisement).collect();
        let mut specs = Vec::new();
        for (number, (name, object)) in objects.iter().enumerate() {
            let earlier = self.advertisements.get(*name).map(|earlier| Some(earlier.clone()));
            let read = usable(bgp::advertisement(name, object, names), earlier, complaints);
            specs.extend(read.flatten().map(|advertisement| (number, advertisement)));
        }
        Forms { kind: Kind::BgpAdvertisement, prefix: "advertisements", objects, specs }
    }
}

#[cfg(test)]
mod tests;
