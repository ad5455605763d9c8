//! Gives each interface exactly one role, with the reason. The role follows from the interface's kind, other end,
//! addresses and routes, and not from its name unless a flag names it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Interface, Interfaces};

/// Kinds of interfaces for addresses or queueing. Clients' packets do not come in by them.
const DUMMIES: [&str; 2] = ["dummy", "ifb"];

/// Packets come in by the interfaces in it, which have the roles.
const VRF: &str = "vrf";

/// Kinds of bridge ports that lead out of the node; a network card's kind is empty.
const CARDS: [&str; 4] = ["", "bond", "team", "vlan"];

const DEFAULT_ROUTE: &str = "it has the default route";

/// The roles, as shown to people.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceRole {
    Uplink,
    Pod,
    /// A bridge whose ports are pod interfaces; gets no program.
    PodBridge,
    None,
}

/// The name of a role in `svc-ctl status` and metrics.
pub const fn role_name(role: InterfaceRole) -> &'static str {
    match role {
        InterfaceRole::Uplink => "uplink",
        InterfaceRole::Pod => "pod",
        InterfaceRole::PodBridge => "pod-bridge",
        InterfaceRole::None => "none",
    }
}

/// A role and its reason.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Assignment {
    pub role: InterfaceRole,
    pub reason: String,
    /// Why it might have another role instead.
    pub doubt: Option<String>,
}

/// Roles configured by the user. A pattern is a name, or a prefix followed by `*`.
#[derive(Clone, Debug, Default)]
pub struct RoleRules {
    pub uplinks: Vec<String>,
    pub excluded: Vec<String>,
    pub pods: Vec<String>,
}

/// How local pods' interfaces are recognised (SEM-090).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PodInterfaces {
    /// By role.
    ByRole,
    /// The named bridge and its ports.
    PortsOf(String),
    /// Interfaces with this name prefix.
    Beginning(String),
}

impl PodInterfaces {
    pub fn has(&self, i: &Interface, is_pod: bool, all: &Interfaces) -> bool {
        let name_of = |index| all.list.iter().find(|other| other.index == index).map(|other| &other.name);
        match self {
            Self::ByRole => is_pod,
            Self::PortsOf(bridge) => i.name == *bridge || i.master.and_then(name_of) == Some(bridge),
            Self::Beginning(prefix) => i.name.starts_with(prefix),
        }
    }
}

/// Gives every interface its role, by index.
pub fn assign(interfaces: &Interfaces, rules: &RoleRules) -> BTreeMap<u32, Assignment> {
    let bridges = Bridges::of(interfaces, rules);
    interfaces.list.iter().map(|i| (i.index, assign_one(i, rules, &bridges))).collect()
}

/// Bridges, classified by their ports.
struct Bridges<'a> {
    by_index: BTreeMap<u32, &'a Interface>,
    /// Bridges to a network outside the node, with the reason.
    uplinks: BTreeMap<u32, String>,
    with_cards: BTreeSet<u32>,
    /// Bridges with ports to other network namespaces, with those ports.
    with_pods: BTreeMap<u32, Vec<&'a str>>,
    with_ports: BTreeSet<u32>,
}

impl<'a> Bridges<'a> {
    fn of(interfaces: &'a Interfaces, rules: &RoleRules) -> Self {
        let by_index: BTreeMap<u32, &Interface> = interfaces.list.iter().map(|i| (i.index, i)).collect();
        let mut bridges = Self {
            by_index,
            uplinks: BTreeMap::new(),
            with_cards: BTreeSet::new(),
            with_pods: BTreeMap::new(),
            with_ports: BTreeSet::new(),
        };
        for port in &interfaces.list {
            let Some(bridge) = bridges.master(port).filter(|master| joins_ports(master)) else { continue };
            bridges.with_ports.insert(bridge.index);
            let is_pod = match first_match(&rules.pods, &port.name) {
                Some(_) => true,
                None => port.has_peer_elsewhere && first_match(&rules.uplinks, &port.name).is_none(),
            };
            if is_pod {
                bridges.with_pods.entry(bridge.index).or_default().push(&port.name);
            } else if CARDS.contains(&port.kind.as_str()) && bridge.is_bridge {
                bridges.with_cards.insert(bridge.index);
                bridges.uplinks.insert(bridge.index, format!("{} is its port", port.name));
            }
        }
        let with_default = interfaces.list.iter().filter(|i| i.is_bridge && i.has_default_route);
        bridges.uplinks.extend(with_default.map(|i| (i.index, DEFAULT_ROUTE.to_owned())));
        bridges
    }

    fn master(&self, port: &Interface) -> Option<&'a Interface> {
        self.by_index.get(&port.master?).copied()
    }
}

/// It joins its ports on layer 2: a bridge, or the interface that Open vSwitch shows as the master of its ports.
fn joins_ports(master: &Interface) -> bool {
    master.is_bridge || master.kind == "openvswitch"
}

fn assign_one(i: &Interface, rules: &RoleRules, bridges: &Bridges<'_>) -> Assignment {
    let assignment = |role, reason| Assignment { role, reason, doubt: None };
    if let Some(p) = first_match(&rules.excluded, &i.name) {
        assignment(InterfaceRole::None, format!("--exclude-interface {p}"))
    } else if !i.is_up {
        assignment(InterfaceRole::None, "down".to_owned())
    } else if i.is_loopback {
        assignment(InterfaceRole::None, "loopback".to_owned())
    } else if let Some(p) = first_match(&rules.uplinks, &i.name) {
        assignment(InterfaceRole::Uplink, format!("--uplink {p}"))
    } else if let Some(p) = first_match(&rules.pods, &i.name) {
        assignment(InterfaceRole::Pod, format!("--pod-interface {p}"))
    } else if i.is_of_another_proxy() {
        assignment(InterfaceRole::None, "addresses that another proxy left".to_owned())
    } else if DUMMIES.contains(&i.kind.as_str()) {
        assignment(InterfaceRole::None, format!("{}: no packet comes in by it", i.kind))
    } else if i.kind == VRF {
        assignment(InterfaceRole::None, "a VRF: the interfaces in it have the roles".to_owned())
    } else if let Some(master) = bridges.master(i).filter(|master| master.kind != VRF) {
        assign_port(i, master, bridges)
    } else if i.is_bridge || bridges.with_ports.contains(&i.index) {
        assign_bridge(i, bridges)
    } else if i.has_peer_elsewhere {
        assign_pair(i)
    } else {
        let reason = "neither loopback nor a pod's".to_owned();
        Assignment { role: InterfaceRole::Uplink, reason, doubt: doubt_of_tap(i) }
    }
}

/// A tap may lead to a virtual machine of this node, or to a virtual private network, which has a network's address.
fn doubt_of_tap(i: &Interface) -> Option<String> {
    let is_tap = i.kind == "tun" && i.is_ethernet && !i.has_default_route && i.subnets.is_empty();
    is_tap.then(|| {
        "a tap without an address of a network may lead to a virtual machine of this node, which counts as a client from \
         outside: --pod-interface or --uplink says which"
            .to_owned()
    })
}

/// A port of a bridge, bond or switch.
fn assign_port(i: &Interface, master: &Interface, bridges: &Bridges<'_>) -> Assignment {
    let (role, reason) = if bridges.uplinks.contains_key(&master.index) {
        (InterfaceRole::None, format!("port of {}, which is the uplink", master.name))
    } else if joins_ports(master) && i.has_peer_elsewhere {
        (InterfaceRole::Pod, format!("port of {}, {} to another network namespace", master.name, i.kind))
    } else {
        (InterfaceRole::None, format!("port of {}", master.name))
    };
    Assignment { role, reason, doubt: None }
}

fn assign_bridge(i: &Interface, bridges: &Bridges<'_>) -> Assignment {
    let pods = bridges.with_pods.get(&i.index).map_or(&[][..], Vec::as_slice);
    let (role, reason) = match bridges.uplinks.get(&i.index) {
        Some(why) => (InterfaceRole::Uplink, why.clone()),
        None if !pods.is_empty() => (InterfaceRole::PodBridge, format!("{} is its port", pods[0])),
        None if !bridges.with_ports.contains(&i.index) => (InterfaceRole::PodBridge, "no ports".to_owned()),
        None => (InterfaceRole::Uplink, "none of its ports is a pod's".to_owned()),
    };
    // A single port of this kind may be the network card of a node that is itself a container.
    let cards = if bridges.with_cards.contains(&i.index) { 0 } else { 1 };
    let doubt = (role == InterfaceRole::Uplink && pods.len() > cards).then(|| {
        format!(
            "it leads out of the node ({reason}) and also to other network namespaces ({}): those count as clients from \
             outside",
            pods.join(", ")
        )
    });
    Assignment { role, reason, doubt }
}

/// One end of a pair. It may be the network card of a node that is itself a container.
fn assign_pair(i: &Interface) -> Assignment {
    let kind = &i.kind;
    let mut doubt = None;
    let (role, reason) = if i.has_default_route {
        (InterfaceRole::Uplink, DEFAULT_ROUTE.to_owned())
    } else if let Some(subnet) = i.subnets.first() {
        doubt = i.routed_host.map(|routed_host| {
            format!(
                "it has the node's address {subnet}, as an uplink, and leads to {routed_host} alone, as a pod's interface: \
                 --uplink or --pod-interface says which"
            )
        });
        (InterfaceRole::Uplink, format!("it has the node's address {subnet}"))
    } else if let Some(routed_host) = i.routed_host {
        (InterfaceRole::Pod, format!("{kind} to another network namespace, which has {routed_host}"))
    } else if i.has_router {
        (InterfaceRole::Uplink, "routes by a router leave by it".to_owned())
    } else {
        (InterfaceRole::Pod, format!("{kind} to another network namespace"))
    };
    Assignment { role, reason, doubt }
}

fn first_match<'a>(patterns: &'a [String], name: &str) -> Option<&'a String> {
    patterns.iter().find(|p| match p.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => p.as_str() == name,
    })
}

#[cfg(test)]
mod tests;
