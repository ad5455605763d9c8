//! By which interface a client's packets come.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use nix::net::if_::{if_indextoname, if_nametoindex};
use svc_common::abi::{Iface, Role};

use crate::dataplane::maps::Maps;
use crate::dataplane::reach;

/// An interface whose packets pass a program of svc.
#[derive(Clone, Debug)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub entry: Iface,
    /// How the interface was found.
    pub because: String,
}

/// The way by which a packet comes.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A process of this node sends it.
    Node,
    Interface(Interface),
}

/// The interface that was named, or the one towards the client.
pub fn find(maps: &Maps, client: IpAddr, named: Option<&str>) -> anyhow::Result<Origin> {
    if let Some(name) = named {
        let index = if_nametoindex(name).with_context(|| format!("--in {name}: no such interface"))?;
        return Ok(Origin::Interface(interface(maps, index, "named by --in".to_owned())?));
    }
    let route = reach::route_to(client)
        .with_context(|| format!("this node has no route to {client}: name the interface with --in"))?;
    if route.is_local {
        return Ok(Origin::Node);
    }
    let is_bridge = maps.ifaces.get(&route.oif, 0).is_ok_and(|iface| iface.role == Role::POD_BRIDGE);
    Ok(Origin::Interface(match is_bridge {
        true => port_towards(maps, route.oif, client)?,
        false => interface(maps, route.oif, format!("the route to {client}"))?,
    }))
}

/// The interface by which a packet leaves to this destination, if its route leads to this one and it passes a program of svc there.
pub fn exit_towards(maps: &Maps, oif: u32, destination: IpAddr) -> anyhow::Result<Option<Interface>> {
    Ok(match maps.ifaces.get(&oif, 0).map(|iface| iface.role) {
        Ok(Role::POD_BRIDGE) => Some(port_towards(maps, oif, destination)?),
        Ok(Role::POD | Role::UPLINK) => Some(interface(maps, oif, format!("the route to {destination}"))?),
        _ => None,
    })
}

/// The port of a bridge of pods behind which an address is.
fn port_towards(maps: &Maps, bridge: u32, address: IpAddr) -> anyhow::Result<Interface> {
    let name = name_of(bridge);
    let is_of_bridge = |port: &u32| maps.ifaces.get(port, 0).is_ok_and(|iface| iface.bridge == bridge);
    let ports = match reach::neighbor(address, bridge)? {
        Some(mac) => reach::bridge_ports(mac)?,
        None => Vec::new(),
    };
    let (port, because) = match ports.into_iter().find(is_of_bridge) {
        Some(port) => (port, format!("the port of {name} towards {address}")),
        // All pods' ports of a bridge have one role, so any of them gives the same answer.
        None => {
            let any = maps.ifaces.keys().flatten().find(is_of_bridge);
            let any =
                any.with_context(|| format!("{address} is behind the bridge {name}, which has no pod"))?;
            (any, format!("a port of {name}, which has not heard of {address} lately"))
        }
    };
    interface(maps, port, because)
}

fn interface(maps: &Maps, index: u32, because: String) -> anyhow::Result<Interface> {
    let name = name_of(index);
    let Ok(entry) = maps.ifaces.get(&index, 0) else {
        bail!("{name} ({because}) has no role: packets that come by it pass no program of svc");
    };
    if ![Role::POD, Role::UPLINK].contains(&entry.role) {
        bail!("{name} ({because}) is a pods' bridge and has no program: name one of its ports with --in");
    }
    Ok(Interface { index, name, entry, because })
}

impl Interface {
    /// The interface by which the kernel routes a packet that came by this one.
    pub fn routed_by(&self) -> u32 {
        if self.entry.bridge == 0 { self.index } else { self.entry.bridge }
    }
}

/// The interface's name, or its number if it is gone.
pub fn name_of(index: u32) -> String {
    let name = if_indextoname(index).ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("interface {index}"))
}
