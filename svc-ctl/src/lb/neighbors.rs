//! The link-layer addresses of other nodes, as the kernel's neighbor table has them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};

use super::Members;
use super::claim::Mac;
use crate::node::neighbors::mac;

/// Adds the link-layer addresses of each node. Known ones stay, because a node may be away for a while.
pub async fn learn(
    handle: &Handle,
    node: &str,
    members: &Members,
    known: &mut BTreeMap<Mac, String>,
) -> anyhow::Result<()> {
    let mut neighbors = handle.neighbours().get().execute();
    while let Some(neighbor) = neighbors.try_next().await.context("listing neighbors")? {
        let Some((address, mac)) = entry(&neighbor) else { continue };
        let owner =
            members.iter().find(|(name, member)| *name != node && member.addresses.contains(&address));
        if let Some((name, _)) = owner {
            known.insert(mac, name.clone());
        }
    }
    for (name, member) in members.iter().filter(|(name, _)| *name != node) {
        known.extend(member.macs.iter().map(|mac| (*mac, name.clone())));
    }
    known.retain(|_, name| members.contains_key(name));
    Ok(())
}

fn entry(neighbor: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let address = neighbor.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    Some((address?, mac(neighbor).filter(|mac| *mac != [0; 6])?))
}
