//! Keeps interfaces' programs attached, and the interface table current.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use aya::maps::{HashMap, MapData};
use nix::net::if_::if_indextoname;
use serde::Serialize;
use svc_common::abi::{Iface, IfaceFlags, Role};

use super::attach::Attacher;
use super::clsact;
use super::encode;
use super::hooks::{TcHook, XdpMode};

/// The hook that enables XDP on other interfaces to redirect to this one.
const NATIVE_XDP: &str = "xdp/native";

/// An interface that must have programs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DesiredInterface {
    pub index: u32,
    pub name: String,
    pub role: Role,
    /// Packets have an Ethernet header.
    pub is_ethernet: bool,
    /// Index of the pods' bridge that it is a port of, or its own if it is an uplink and a bridge; 0: none.
    pub bridge: u32,
    pub snat_v4: Ipv4Addr,
    pub snat_v6: Ipv6Addr,
    pub mac: [u8; 6],
    /// Packets that come in here were sent by local pods.
    pub is_of_pods: bool,
    /// Whether masqueraded packets go through the stack.
    pub masquerade: IfaceFlags,
    /// The requested XDP mode, if any.
    pub xdp: Option<XdpRequest>,
}

/// A request for XDP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct XdpRequest {
    pub mode: XdpMode,
    /// The mode was not requested by name, so a driver without support is no error.
    pub is_optional: bool,
}

/// Programs attached to an interface, for `status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Attached {
    pub hooks: Vec<String>,
    /// Failed attachments, with the reason.
    pub errors: Vec<String>,
}

/// An interface that has programs.
#[derive(Debug)]
struct Attachment {
    wanted: DesiredInterface,
    attached: Attached,
    /// Its entry in the interface table, as last written.
    entry: Option<Iface>,
}

/// The interfaces that have programs.
#[derive(Debug, Default)]
pub struct Attachments {
    current: BTreeMap<u32, Attachment>,
}

/// The interface table.
pub type IfaceTable = HashMap<MapData, u32, Iface>;

impl Attachments {
    /// Attaches programs to interfaces that are new, have changed or failed before. Detaches those of removed
    /// interfaces. Returns the newly attached interfaces.
    pub fn update(
        &mut self,
        attacher: &mut Attacher<'_>,
        table: &mut IfaceTable,
        wanted: Vec<DesiredInterface>,
    ) -> Vec<u32> {
        let keep: BTreeSet<u32> = wanted.iter().map(|interface| interface.index).collect();
        let gone: Vec<u32> = self.current.keys().copied().filter(|i| !keep.contains(i)).collect();
        for index in gone {
            if let Some(attachment) = self.current.remove(&index) {
                detach(attacher, &attachment.wanted);
            }
            // An entry that is already gone is fine.
            let _ = table.remove(&index);
        }
        let mut fresh = Vec::new();
        for wanted in wanted {
            let index = wanted.index;
            let before = self.current.remove(&index);
            let is_same = before.as_ref().is_some_and(|Attachment { wanted: b, attached, .. }| {
                attached.errors.is_empty()
                    && b.name == wanted.name
                    && b.role == wanted.role
                    && b.xdp == wanted.xdp
            });
            let (attached, entry) = match before {
                Some(before) if is_same => (before.attached, before.entry),
                before => (Attached::default(), before.and_then(|before| before.entry)),
            };
            let mut attachment = Attachment { wanted, attached, entry };
            if !is_same {
                // Before the programs: they look the interface up from the first packet on.
                match attachment.write_entry(table) {
                    Ok(()) => {
                        fresh.push(index);
                        attachment.attached = attach(attacher, &attachment.wanted);
                    }
                    Err(err) => attachment.attached.errors.push(err),
                }
            }
            if let Err(err) = attachment.write_entry(table) {
                attachment.attached.errors.push(err);
            }
            self.current.insert(index, attachment);
        }
        fresh
    }

    /// Removes leftovers of an earlier daemon for other interfaces: links, filters, entries of the interface table.
    pub fn prune(&self, attacher: &mut Attacher<'_>, table: &mut IfaceTable) -> anyhow::Result<()> {
        for name in attacher.pins.link_names()? {
            let index = name.rsplit_once('-').and_then(|(_, index)| index.parse::<u32>().ok());
            if index.is_some_and(|index| !self.current.contains_key(&index))
                && let Err(err) = attacher.remove(&name)
            {
                tracing::warn!(link = name, %err, "cannot remove a stale link");
            }
        }
        if !attacher.loaded.features.tcx {
            for (index, name) in clsact::interfaces()? {
                if !self.current.contains_key(&index) {
                    clsact::remove(index, &name);
                }
            }
        }
        let stale: Vec<u32> = table.keys().flatten().filter(|i| !self.current.contains_key(i)).collect();
        for index in stale {
            table.remove(&index)?;
        }
        Ok(())
    }

    /// Attaches programs again whose link is dead or whose filter is gone; returns the interfaces.
    pub fn restore(&mut self, attacher: &mut Attacher<'_>, dead: &[String]) -> anyhow::Result<Vec<u32>> {
        let is_lost = |index: u32, attached: &Attached| {
            attached.hooks.iter().any(|hook| match hook.split_once('/') {
                Some(("clsact", "ingress")) => !clsact::is_attached(index, TcHook::Ingress),
                Some(("clsact", _)) => !clsact::is_attached(index, TcHook::Egress),
                Some((kind, way)) => dead.contains(&format!("{kind}-{way}-{index}")),
                None => false,
            })
        };
        let lost = self.current.iter().filter(|(index, a)| is_lost(**index, &a.attached));
        let mut lost: Vec<u32> = lost.map(|(index, _)| *index).collect();
        if !lost.is_empty() {
            // The netlink watcher reports interfaces that are gone.
            let present = clsact::interfaces()?;
            lost.retain(|index| present.contains_key(index));
        }
        for index in &lost {
            if let Some(attachment) = self.current.get_mut(index) {
                attachment.attached = attach(attacher, &attachment.wanted);
            }
        }
        Ok(lost)
    }

    /// Puts the programs of `attacher` into every clsact filter of ours.
    pub fn swap_filters(&self, attacher: &mut Attacher<'_>) -> anyhow::Result<()> {
        for Attachment { wanted, attached, .. } in self.current.values() {
            for (program, hook) in tc_programs(wanted) {
                if attached.hooks.iter().any(|name| *name == format!("clsact/{}", hook.label())) {
                    attacher.clsact(&wanted.name, program, *hook)?;
                }
            }
        }
        Ok(())
    }

    /// Some attachment failed.
    pub fn has_errors(&self) -> bool {
        self.current.values().any(|attachment| !attachment.attached.errors.is_empty())
    }

    pub fn get(&self, index: u32) -> Option<&Attached> {
        self.current.get(&index).map(|attachment| &attachment.attached)
    }

    /// The interfaces by name, with their failed attachments.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &[String])> {
        let all = self.current.values().map(|a| (a.wanted.name.as_str(), a.attached.errors.as_slice()));
        all.filter(|(_, errors)| !errors.is_empty())
    }
}

impl Attachment {
    /// Writes the interface's entry if it differs from the last one written.
    fn write_entry(&mut self, table: &mut IfaceTable) -> Result<(), String> {
        let DesiredInterface { index, role, bridge, snat_v4, snat_v6, mac, is_of_pods, masquerade, .. } =
            &self.wanted;
        let takes_xdp = self.attached.hooks.iter().any(|hook| hook == NATIVE_XDP);
        let bits = [(takes_xdp, IfaceFlags::TAKES_XDP), (*is_of_pods, IfaceFlags::LOCAL_PODS)];
        let set = bits.iter().filter(|(is_set, _)| *is_set);
        let flags = set.fold(*masquerade, |flags, (_, bit)| flags.with(*bit));
        let (snat_v4, snat_v6) = (encode::v4(*snat_v4), encode::v6(*snat_v6));
        let entry = Iface { role: *role, bridge: *bridge, snat_v4, snat_v6, mac: *mac, flags };
        if self.entry != Some(entry) {
            table.insert(index, entry, 0).map_err(|err| format!("IFACES: {err}"))?;
            self.entry = Some(entry);
        }
        Ok(())
    }
}

/// The programs for an interface's TC hooks.
fn tc_programs(interface: &DesiredInterface) -> &'static [(&'static str, TcHook)] {
    if interface.role == Role::POD {
        &[("pod_ingress", TcHook::Ingress), ("pod_egress", TcHook::Egress)]
    } else if interface.role == Role::UPLINK && interface.is_ethernet {
        &[("uplink_ingress", TcHook::Ingress), ("uplink_egress", TcHook::Egress)]
    } else if interface.role == Role::UPLINK {
        &[("tunnel_ingress", TcHook::Ingress), ("tunnel_egress", TcHook::Egress)]
    } else {
        &[]
    }
}

/// Every program that the interface needs.
pub fn programs(interface: &DesiredInterface) -> impl Iterator<Item = &'static str> {
    let xdp = interface.xdp.map(|xdp| xdp.mode.program());
    tc_programs(interface).iter().map(|(program, _)| *program).chain(xdp)
}

fn attach(attacher: &mut Attacher<'_>, interface: &DesiredInterface) -> Attached {
    let mut attached = Attached::default();
    let programs = tc_programs(interface);
    if programs.is_empty() {
        // The interface may have had another role.
        detach_tc(attacher, interface);
    }
    for (program, hook) in programs {
        match attacher.tc(&interface.name, interface.index, program, *hook) {
            Ok(how) => attached.hooks.push(format!("{how}/{}", hook.label())),
            Err(err) => attached.errors.push(format!("{err:#}")),
        }
    }
    match interface.xdp {
        Some(xdp) => match attacher.xdp(&interface.name, interface.index, xdp.mode) {
            Ok(()) => attached.hooks.push(format!("xdp/{}", xdp.mode.name())),
            Err(err) if xdp.is_optional => {
                tracing::info!(interface = interface.name, "no native XDP: {err:#}")
            }
            Err(err) => attached.errors.push(format!("{err:#}")),
        },
        None => {
            for mode in ["native", "generic"] {
                if let Err(err) = attacher.remove(&format!("xdp-{mode}-{}", interface.index)) {
                    attached.errors.push(format!("{err:#}"));
                }
            }
        }
    }
    if !attached.errors.is_empty() && if_indextoname(interface.index).is_err() {
        // The interface vanished in the meantime. The netlink watcher reports that.
        return Attached::default();
    }
    attached
}

fn detach(attacher: &mut Attacher<'_>, interface: &DesiredInterface) {
    detach_tc(attacher, interface);
    for link in ["xdp-native", "xdp-generic"] {
        remove_link(attacher, link, interface.index);
    }
}

fn detach_tc(attacher: &mut Attacher<'_>, interface: &DesiredInterface) {
    if !attacher.loaded.features.tcx {
        clsact::remove(interface.index, &interface.name);
    }
    for link in ["tcx-ingress", "tcx-egress"] {
        remove_link(attacher, link, interface.index);
    }
}

fn remove_link(attacher: &mut Attacher<'_>, link: &str, index: u32) {
    if let Err(err) = attacher.remove(&format!("{link}-{index}")) {
        tracing::warn!(link, index, %err, "cannot remove an unneeded link");
    }
}
