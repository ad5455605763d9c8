//! Desired programs of each interface, by its role.

use std::collections::BTreeMap;
use std::net::IpAddr;

use svc_common::abi::{self, IfaceFlags};

use super::xdp;
use crate::config::Config;
use crate::dataplane::interfaces::{Attached, DesiredInterface};
use crate::model::node::NodeAddresses;
use crate::node::roles::{Assignment, InterfaceRole, role_name};
use crate::node::snat::sources;
use crate::node::{Interface, Interfaces};
use crate::observe::status::InterfaceStatus;
use crate::plan::prefixes::LocalPods;

/// Desired programs of every interface with a role.
pub fn desired_interfaces(
    config: &Config,
    interfaces: &Interfaces,
    roles: &BTreeMap<u32, Assignment>,
    masquerade: IfaceFlags,
) -> Vec<DesiredInterface> {
    let of = |i| desired_interface(config, i, interfaces, roles, masquerade);
    interfaces.list.iter().filter_map(of).collect()
}

fn desired_interface(
    config: &Config,
    i: &Interface,
    interfaces: &Interfaces,
    roles: &BTreeMap<u32, Assignment>,
    masquerade: IfaceFlags,
) -> Option<DesiredInterface> {
    let role = match roles.get(&i.index)?.role {
        InterfaceRole::Uplink => abi::Role::UPLINK,
        InterfaceRole::Pod => abi::Role::POD,
        InterfaceRole::PodBridge => abi::Role::POD_BRIDGE,
        InterfaceRole::None => return None,
    };
    let source = sources(i, interfaces, roles);
    let is_pod_bridge = |index: &u32| roles.get(index).is_some_and(|a| a.role == InterfaceRole::PodBridge);
    let is_uplink = role == abi::Role::UPLINK;
    Some(DesiredInterface {
        index: i.index,
        name: i.name.clone(),
        role,
        is_ethernet: i.is_ethernet,
        bridge: if is_uplink && i.is_bridge { i.index } else { i.master.filter(is_pod_bridge).unwrap_or(0) },
        snat_v4: source.v4,
        snat_v6: source.v6,
        mac: i.mac,
        is_of_pods: config.settings.local_pods == LocalPods::ByInterface
            && config.pod_interfaces.has(i, role == abi::Role::POD, interfaces),
        masquerade,
        xdp: is_uplink.then(|| xdp::requested_mode(config.xdp, i, interfaces)).flatten(),
    })
}

/// The addresses of the node's interfaces, without those left by another proxy.
pub fn node_addresses(interfaces: &Interfaces, roles: &BTreeMap<u32, Assignment>) -> NodeAddresses {
    let own = || interfaces.list.iter().filter(|i| !i.is_of_another_proxy());
    let is_uplink = |i: &&Interface| roles.get(&i.index).is_some_and(|a| a.role == InterfaceRole::Uplink);
    let uplinks = || own().filter(is_uplink).flat_map(|i| &i.addrs).copied();
    NodeAddresses {
        addrs: own().flat_map(|i| i.addrs.iter().copied()).collect(),
        primary_v4: uplinks().find_map(|a| if let IpAddr::V4(a) = a { Some(a) } else { None }),
        primary_v6: uplinks().find_map(|a| if let IpAddr::V6(a) = a { Some(a) } else { None }),
    }
}

/// The row of an interface in `svc-ctl status`.
pub fn interface_status(
    i: &Interface,
    assignment: Option<&Assignment>,
    attached: Attached,
    attach_ms: Option<f64>,
) -> InterfaceStatus {
    InterfaceStatus {
        name: i.name.clone(),
        index: i.index,
        role: role_name(assignment.map_or(InterfaceRole::None, |a| a.role)).to_owned(),
        reason: assignment.map_or_else(String::new, |a| a.reason.clone()),
        hooks: attached.hooks,
        errors: attached.errors,
        attach_ms,
    }
}
