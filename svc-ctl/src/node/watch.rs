//! Watches interfaces and addresses by netlink. Every event makes one fresh dump: events only say that something
//! changed, the dump says what is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Interface, Interfaces};

/// Interfaces and when we heard of the change that made them so.
#[derive(Clone, Debug)]
pub struct Observed {
    pub interfaces: Interfaces,
    pub heard: Instant,
}

/// Dumps once, then keeps the channel current until it is closed. An error of netlink itself ends it.
pub async fn run(sender: watch::Sender<Option<Observed>>) -> anyhow::Result<()> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, handle, mut events) = new_multicast_connection(&groups).context("opening netlink")?;
    tokio::spawn(connection);
    loop {
        let heard = Instant::now();
        let interfaces = dump(&handle).await.context("listing interfaces")?;
        sender.send_if_modified(|current| {
            let is_new = current.as_ref().is_none_or(|c| c.interfaces != interfaces);
            if is_new {
                *current = Some(Observed { interfaces, heard });
            }
            is_new
        });
        if sender.is_closed() {
            return Ok(());
        }
        events.next().await.context("netlink closed")?;
        // What has piled up meanwhile is covered by the same dump.
        while let Some(Some(_)) = futures::FutureExt::now_or_never(events.next()) {}
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
        // IPv4 says its own address in Local (Address is the peer's); IPv6 has only Address.
        let find =
            |wanted: fn(&AddressAttribute) -> Option<IpAddr>| address.attributes.iter().find_map(wanted);
        let local = find(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
        let plain = find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
        let ip = local.or(plain);
        // As a source the kernel takes one whose time is over only if there is no other.
        if address.header.flags.contains(AddressHeaderFlags::Deprecated) {
            old.extend(ip.map(|ip| (interface.index, ip)));
        } else {
            interface.addrs.extend(ip);
        }
    }
    for (index, ip) in old {
        by_index.entry(index).and_modify(|interface| interface.addrs.push(ip));
    }
    Ok(Interfaces { list: by_index.into_values().collect() })
}

fn interface(link: LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut interface = Interface {
        index: link.header.index,
        is_up: flags.contains(LinkFlags::Up),
        is_loopback: flags.contains(LinkFlags::Loopback),
        is_ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        ..Interface::default()
    };
    let (mut below, mut is_of_another_namespace) = (None, false);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
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
    interface.vlan_over = below.filter(|_| interface.kind == "vlan" && !is_of_another_namespace);
    interface
}
