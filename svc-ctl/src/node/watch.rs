//! Watches interfaces, addresses and routes by netlink. Each event causes one fresh dump: an event only says that
//! something changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

use anyhow::Context as _;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::watch;
use tokio::time::Instant;

use super::routes::{Fact, fact, is_by_mark, own_mtu};
use super::{Interface, Interfaces};

/// Kinds of interfaces made in pairs, one end for the node and one for a pod.
const PAIRS: [&str; 2] = ["veth", "netkit"];

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Interfaces, and when the event that changed them arrived.
#[derive(Clone, Debug)]
pub struct Observed {
    pub interfaces: Interfaces,
    pub heard: Instant,
}

/// Dumps once, then keeps the channel current until it is closed. Ends on an error of netlink itself.
pub async fn run(sender: watch::Sender<Option<Observed>>) -> anyhow::Result<()> {
    let (connection, handle, mut events) = new_multicast_connection(&GROUPS).context("opening netlink")?;
    tokio::spawn(connection);
    loop {
        let heard = Instant::now();
        let interfaces = dump(&handle).await.context("listing interfaces")?;
        sender.send_if_modified(|current| {
            let is_new = current.as_ref().is_none_or(|c| c.interfaces != interfaces);
            if is_new {
                *current = Some(Observed { interfaces: interfaces.clone(), heard });
            }
            is_new
        });
        if sender.is_closed() {
            return Ok(());
        }
        while !is_news(&events.next().await.context("netlink closed")?.0, &interfaces) {}
        // The next dump covers all events that have queued up.
        while let Some(Some(_)) = events.next().now_or_never() {}
    }
}

/// The message may change an interface's role. A node with BGP has many routes that do not.
fn is_news(message: &NetlinkMessage<RouteNetlinkMessage>, known: &Interfaces) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => {
            let is_pair = |index: &u32| known.list.iter().any(|i| i.index == *index && i.has_peer_elsewhere);
            let tells_roles = fact(route)
                .is_some_and(|(fact, interfaces)| fact == Fact::Default || interfaces.iter().any(is_pair));
            tells_roles || own_mtu(route).is_some()
        }
        _ => true,
    }
}

/// All interfaces with their addresses.
async fn dump(handle: &Handle) -> anyhow::Result<Interfaces> {
    let mut by_index = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let interface = interface(link);
        by_index.insert(interface.index, interface);
    }
    let mut addresses = handle.address().get().execute();
    let mut old = Vec::new();
    while let Some(address) = addresses.try_next().await? {
        let Some(interface) = by_index.get_mut(&address.header.index) else { continue };
        if address.header.scope != AddressScope::Universe && address.header.scope != AddressScope::Site {
            continue;
        }
        // IPv4 has its own address in Local (Address is the peer's); IPv6 has only Address.
        let find =
            |wanted: fn(&AddressAttribute) -> Option<IpAddr>| address.attributes.iter().find_map(wanted);
        let local = find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
        let plain = find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
        let ip = local.or(plain);
        let net = plain.and_then(|ip| IpNet::new(ip, address.header.prefix_len).ok());
        interface.subnets.extend(net.filter(|net| net.prefix_len() < net.max_prefix_len()));
        // The kernel uses a deprecated address as a source only if there is no other.
        if address.header.flags.contains(AddressHeaderFlags::Deprecated) {
            old.extend(ip.map(|ip| (interface.index, ip)));
        } else {
            interface.addrs.extend(ip);
        }
    }
    for (index, ip) in old {
        by_index.entry(index).and_modify(|interface| interface.addrs.push(ip));
    }
    let routes =
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    let mut has_narrow_route = false;
    for request in routes {
        let mut routes = handle.route().get(request).execute();
        while let Some(route) = routes.try_next().await? {
            note_route(&route, &mut by_index);
            has_narrow_route |= own_mtu(&route).is_some_and(|(mtu, indices)| {
                indices.iter().filter_map(|index| by_index.get(index)).any(|out| mtu < out.mtu)
            });
        }
    }
    let mut all = Interfaces { has_narrow_route, ..Interfaces::default() };
    // A family that the kernel does not have has no rules.
    for family in [IpVersion::V4, IpVersion::V6] {
        let mut rules = pin!(handle.rule().get(family).execute());
        while let Ok(Some(rule)) = rules.try_next().await {
            all.routes_by_source |= rule.header.src_len > 0;
            all.routes_by_mark |= is_by_mark(&rule);
        }
    }
    all.list = by_index.into_values().collect();
    Ok(all)
}

/// Notes a route only if it may decide a role.
fn note_route(route: &RouteMessage, by_index: &mut BTreeMap<u32, Interface>) {
    let Some((fact, indices)) = fact(route) else { return };
    for index in indices {
        let Some(interface) = by_index.get_mut(&index) else { continue };
        match fact {
            Fact::Default => interface.has_default_route = true,
            Fact::ByGateway => interface.has_router |= interface.has_peer_elsewhere,
            Fact::ToHost(ip) if interface.has_peer_elsewhere => {
                interface.routed_host = Some(interface.routed_host.map_or(ip, |other| other.min(ip)));
            }
            Fact::ToHost(_) => {}
        }
    }
}

fn interface(link: LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut interface = Interface {
        index: link.header.index,
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        is_loopback: flags.contains(LinkFlags::Loopback),
        is_ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        ..Interface::default()
    };
    let (mut below, mut is_of_another_namespace) = (None, false);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::Address(bytes) => interface.mac = bytes.try_into().unwrap_or_default(),
            LinkAttribute::Controller(index) => interface.master = Some(index).filter(|i| *i != 0),
            LinkAttribute::Link(index) => below = Some(index),
            LinkAttribute::LinkNetNsId(_) => is_of_another_namespace = true,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        interface.is_bridge = kind == InfoKind::Bridge;
                        interface.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    interface.has_peer_elsewhere = is_of_another_namespace && PAIRS.contains(&interface.kind.as_str());
    interface.vlan_over = below.filter(|_| interface.kind == "vlan" && !is_of_another_namespace);
    interface
}
