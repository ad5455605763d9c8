//! Marks the presence filter anew from all that the pinned maps hold.

use std::io;

use svc_common::abi::*;
use svc_common::datapath::presence::Marks;
use svc_common::family::{Family, V4, V6};

use super::encode::Encode;
use super::maps::{FamilyMaps, Maps};
use super::presence::{Presence, place};
use crate::plan::tables::Backend;

/// If the filter is new because its pin was lost, marks the entries of the pinned maps. Must be called before programs
/// use the filter.
pub fn complete_presence(maps: &mut Maps) -> io::Result<()> {
    if maps.presence.is_empty()? {
        complete_family::<V4>(&mut maps.v4, &mut maps.presence)?;
        complete_family::<V6>(&mut maps.v6, &mut maps.presence)?;
    }
    Ok(())
}

fn complete_family<F: Family>(maps: &mut FamilyMaps<F::Addr>, presence: &mut Presence) -> io::Result<()>
where
    F::Addr: Encode,
{
    let mut result = Ok(());
    let mut note = |marked: io::Result<()>| {
        if marked.is_err() {
            result = marked;
        }
    };
    let mut has_any = false;
    maps.batches.frontends.each(|key, _| {
        has_any = true;
        let FrontendKey { addr, port, proto, .. } = key;
        note(presence.mark(place(addr.to_ip(), port.number(), proto), Marks::FRONTEND));
    })?;
    maps.batches.addresses.each(|addr, flags| note(presence.mark_address(addr.to_ip(), flags)))?;
    for flow in maps.flows.iter().chain(maps.unassured.iter()) {
        let (key, record) = flow.map_err(io::Error::other)?;
        note(presence.mark_flow::<F>(&key, &record));
    }
    if has_any {
        for id in 0..maps.backends.len() {
            let BackendValue { addr, port, locality, .. } = maps.backends.get(id)?;
            if addr != F::Addr::default() {
                note(presence.mark_backend(&Backend { addr: addr.to_ip(), port: port.number(), locality }));
            }
        }
    }
    result
}
