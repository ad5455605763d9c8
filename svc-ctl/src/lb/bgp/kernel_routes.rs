//! Announced prefixes as routes of the kernel, in a table and with a protocol number of their own, from which a routing daemon on the
//! node takes them (`mode: routes`).
//!
//! The routes are blackholes: svc's programs serve the addresses before the kernel routes, so no packet ever follows them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder, new_connection};

use crate::bgp::settings::RoutesPlace;

/// Makes the routes of this place the wanted ones.
pub async fn bring(place: RoutesPlace, wanted: &BTreeSet<IpNet>) -> anyhow::Result<()> {
    let (connection, handle, _) = new_connection().context("opening netlink")?;
    let connection = tokio::spawn(connection);
    let brought = bring_by(&handle, place, wanted).await;
    connection.abort();
    brought
}

async fn bring_by(handle: &Handle, place: RoutesPlace, wanted: &BTreeSet<IpNet>) -> anyhow::Result<()> {
    let present = present(handle, place).await?;
    // Withdrawals come first: packets for these addresses are lost until then.
    for (prefix, route) in present.iter().filter(|(prefix, _)| !wanted.contains(prefix)) {
        handle.route().del(route.clone()).execute().await.with_context(|| format!("removing {prefix}"))?;
    }
    for prefix in wanted.iter().filter(|prefix| present.iter().all(|(other, _)| other != *prefix)) {
        let route = route(place, *prefix)?;
        handle.route().add(route).replace().execute().await.with_context(|| format!("adding {prefix}"))?;
    }
    Ok(())
}

/// Routes of svc in the table.
async fn present(handle: &Handle, place: RoutesPlace) -> anyhow::Result<Vec<(IpNet, RouteMessage)>> {
    let mut found = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let filter = match version {
            IpVersion::V4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            IpVersion::V6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        };
        let mut routes = handle.route().get(filter).execute();
        while let Some(route) = routes.try_next().await.context("listing routes")? {
            if table(&route) == place.table && route.header.protocol == RouteProtocol::from(place.protocol) {
                found.extend(prefix(&route).map(|prefix| (prefix, route)));
            }
        }
    }
    Ok(found)
}

fn table(route: &RouteMessage) -> u32 {
    let named = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    named.unwrap_or_else(|| route.header.table.into())
}

fn prefix(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    IpNet::new(address?, route.header.destination_prefix_length).ok()
}

fn route(place: RoutesPlace, prefix: IpNet) -> anyhow::Result<RouteMessage> {
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(prefix.network(), prefix.prefix_len())
        .context("a prefix")?;
    Ok(builder
        .table_id(place.table)
        .protocol(RouteProtocol::from(place.protocol))
        .kind(RouteType::BlackHole)
        .build())
}
