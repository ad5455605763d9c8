//! Keeps programs on the interfaces that should have them, and the interface table current.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use svc_common::abi::{Iface, IfaceFlags, Role};

use super::attach::{Attacher, Place, XdpWay, is_attached};
use super::clsact;
use super::encode;
use super::load::Loaded;
use super::maps::Maps;
use super::pins::Pins;

/// The hook that lets XDP on other interfaces send to this one.
const NATIVE_XDP: &str = "xdp/native";

/// An interface that shall have programs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    pub index: u32,
    pub name: String,
    pub role: Role,
    /// Packets carry an Ethernet header.
    pub is_ethernet: bool,
    /// Index of the pod bridge it is a port of, 0 if none.
    pub bridge: u32,
    pub snat_v4: Ipv4Addr,
    pub snat_v6: Ipv6Addr,
    pub mac: [u8; 6],
    /// What comes in here was sent by local pods.
    pub is_of_pods: bool,
    /// How XDP is to run, where it shall.
    pub xdp: Option<Xdp>,
}

/// A wish for XDP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Xdp {
    pub way: XdpWay,
    /// Nobody asked for it by name: a driver that cannot is no error.
    pub is_optional: bool,
}

/// What is attached to an interface, for `status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Attached {
    pub hooks: Vec<String>,
    /// What could not be attached, and why.
    pub errors: Vec<String>,
}

/// The interfaces that have programs.
#[derive(Debug, Default)]
pub struct Attachments {
    current: BTreeMap<u32, (Wanted, Attached)>,
}

impl Attachments {
    /// Attaches what is new or changed, detaches what is gone; answers what was newly attached.
    pub fn update(
        &mut self,
        loaded: &mut Loaded,
        pins: &Pins,
        maps: &mut Maps,
        wanted: Vec<Wanted>,
    ) -> Vec<u32> {
        let keep: BTreeSet<u32> = wanted.iter().map(|w| w.index).collect();
        let mut attacher = Attacher { loaded, pins };
        let gone: Vec<u32> = self.current.keys().copied().filter(|i| !keep.contains(i)).collect();
        for index in gone {
            if let Some((w, _)) = self.current.remove(&index) {
                detach(&attacher, &w);
            }
            // Already gone is what is wanted.
            let _ = maps.ifaces.remove(&index);
        }
        let mut fresh = Vec::new();
        for w in wanted {
            let before = self.current.get(&w.index);
            let is_same = before.is_some_and(|(b, a)| {
                a.errors.is_empty() && b.name == w.name && b.role == w.role && b.xdp == w.xdp
            });
            let mut attached = match before {
                Some((_, attached)) if is_same => attached.clone(),
                // The programs find the interface in the table from their first packet on.
                _ => match put_iface(maps, &w, &Attached::default()) {
                    Ok(()) => {
                        fresh.push(w.index);
                        attach(&mut attacher, &w)
                    }
                    Err(err) => Attached { errors: vec![err], ..Attached::default() },
                },
            };
            attached.errors.extend(put_iface(maps, &w, &attached).err());
            self.current.insert(w.index, (w, attached));
        }
        fresh
    }

    /// Removes what an earlier daemon left for interfaces that are not among the attached: links, filters, entries of
    /// the interface table.
    pub fn prune(&self, loaded: &mut Loaded, pins: &Pins, maps: &mut Maps) -> anyhow::Result<()> {
        let has_tcx = loaded.features.tcx;
        let attacher = Attacher { loaded, pins };
        for name in pins.link_names()? {
            let index = name.rsplit_once('-').and_then(|(_, index)| index.parse::<u32>().ok());
            if index.is_some_and(|index| !self.current.contains_key(&index))
                && let Err(err) = attacher.remove(&name)
            {
                tracing::warn!(link = name, %err, "a stale link stays");
            }
        }
        if !has_tcx {
            for (index, name) in clsact::interfaces()? {
                if !self.current.contains_key(&index) {
                    clsact::remove(index, &name);
                }
            }
        }
        let stale: Vec<u32> =
            maps.ifaces.keys().flatten().filter(|i| !self.current.contains_key(i)).collect();
        for index in stale {
            maps.ifaces.remove(&index)?;
        }
        Ok(())
    }

    /// Attaches anew where somebody detached a program or removed its pin; answers the interfaces.
    pub fn restore(&mut self, loaded: &mut Loaded, pins: &Pins) -> anyhow::Result<Vec<u32>> {
        let is_lost = |index: &u32, a: &Attached| !a.hooks.iter().all(|hook| is_attached(pins, hook, *index));
        let mut lost: Vec<u32> =
            self.current.iter().filter(|(i, (_, a))| is_lost(i, a)).map(|(i, _)| *i).collect();
        if !lost.is_empty() {
            // Of those that are gone the netlink watcher will tell.
            let present = clsact::interfaces()?;
            lost.retain(|index| present.contains_key(index));
        }
        let mut attacher = Attacher { loaded, pins };
        for index in &lost {
            if let Some((w, attached)) = self.current.get_mut(index) {
                *attached = attach(&mut attacher, w);
            }
        }
        Ok(lost)
    }

    pub fn get(&self, index: u32) -> Option<&Attached> {
        self.current.get(&index).map(|(_, attached)| attached)
    }
}

fn put_iface(maps: &mut Maps, w: &Wanted, attached: &Attached) -> Result<(), String> {
    let takes_xdp = attached.hooks.iter().any(|hook| hook == NATIVE_XDP);
    let bits = [(takes_xdp, IfaceFlags::TAKES_XDP), (w.is_of_pods, IfaceFlags::LOCAL_PODS)];
    let set = bits.iter().filter(|(is_set, _)| *is_set);
    let flags = set.fold(IfaceFlags::NONE, |flags, (_, bit)| flags.with(*bit));
    let value = Iface {
        role: w.role,
        bridge: w.bridge,
        snat_v4: encode::v4(w.snat_v4),
        snat_v6: encode::v6(w.snat_v6),
        mac: w.mac,
        flags,
    };
    maps.ifaces.insert(w.index, value, 0).map_err(|err| format!("IFACES: {err}"))
}

fn attach(attacher: &mut Attacher<'_>, w: &Wanted) -> Attached {
    let mut attached = Attached::default();
    let programs: &[(&str, Place)] = if w.role == Role::POD {
        &[("pod_ingress", Place::Ingress), ("pod_egress", Place::Egress)]
    } else if w.role == Role::UPLINK && w.is_ethernet {
        &[("uplink_ingress", Place::Ingress), ("uplink_egress", Place::Egress)]
    } else if w.role == Role::UPLINK {
        &[("tunnel_ingress", Place::Ingress), ("tunnel_egress", Place::Egress)]
    } else {
        &[]
    };
    if programs.is_empty() {
        // It may have had another role.
        detach_tc(attacher, w);
    }
    for (program, place) in programs {
        match attacher.tc(&w.name, w.index, program, *place) {
            Ok(how) => attached.hooks.push(format!("{how}/{}", label(*place))),
            Err(err) => attached.errors.push(format!("{err:#}")),
        }
    }
    match w.xdp {
        Some(xdp) => match attacher.xdp(&w.name, w.index, xdp.way) {
            Ok(()) => attached
                .hooks
                .push(format!("xdp/{}", if xdp.way == XdpWay::Native { "native" } else { "generic" })),
            Err(err) if xdp.is_optional => tracing::info!(interface = w.name, "no native XDP: {err:#}"),
            Err(err) => attached.errors.push(format!("{err:#}")),
        },
        None => {
            for way in ["native", "generic"] {
                if let Err(err) = attacher.remove(&format!("xdp-{way}-{}", w.index)) {
                    attached.errors.push(format!("{err:#}"));
                }
            }
        }
    }
    attached
}

fn detach(attacher: &Attacher<'_>, w: &Wanted) {
    detach_tc(attacher, w);
    for link in ["xdp-native", "xdp-generic"] {
        remove_link(attacher, link, w.index);
    }
}

fn detach_tc(attacher: &Attacher<'_>, w: &Wanted) {
    if !attacher.loaded.features.tcx {
        clsact::remove(w.index, &w.name);
    }
    for link in ["tcx-ingress", "tcx-egress"] {
        remove_link(attacher, link, w.index);
    }
}

fn remove_link(attacher: &Attacher<'_>, link: &str, index: u32) {
    if let Err(err) = attacher.remove(&format!("{link}-{index}")) {
        tracing::warn!(link, index, %err, "a link that is no longer wanted stays");
    }
}

fn label(place: Place) -> &'static str {
    match place {
        Place::Ingress => "ingress",
        Place::Egress => "egress",
    }
}
