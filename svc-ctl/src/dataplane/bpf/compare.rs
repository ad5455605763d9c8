//! Comparing the maps with tables, entry by entry, without a copy of either.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use svc_common::abi::*;

use super::dump::{entry_of, frontend_of, get_backend};
use super::{io_error, pages};
use crate::dataplane::encode::Encode;
use crate::dataplane::maps::{FamilyMaps, Maps};
use crate::plan::maglev::digest;
use crate::plan::tables::{Prefix, Tables};

/// The maps hold these tables and nothing else.
pub fn holds(maps: &mut Maps, wanted: &Tables) -> io::Result<bool> {
    Ok(holds_hashes(&maps.v4, wanted, true)?
        && holds_hashes(&maps.v6, wanted, false)?
        && holds_arrays(maps, wanted)?)
}

fn holds_hashes<A: Encode>(maps: &FamilyMaps<A>, wanted: &Tables, is_v4: bool) -> io::Result<bool> {
    let (mut equal, mut others) = (0, 0);
    let mut count = |is_equal: bool| *(if is_equal { &mut equal } else { &mut others }) += 1_usize;
    maps.batches.frontends.each(|key, value| {
        count(wanted.frontends.get(&frontend_of(key)) == Some(&entry_of(value)));
    })?;
    maps.batches.addresses.each(|addr, flags| count(wanted.addresses.get(&addr.to_ip()) == Some(&flags)))?;
    for entry in maps.prefixes.iter() {
        let (key, _) = entry.map_err(io_error)?;
        let PrefixKey { list, addr } = key.data();
        let bits = key.prefix_len().checked_sub(PrefixList::BITS).and_then(|bits| u8::try_from(bits).ok());
        let net = bits.and_then(|bits| IpNet::new(addr.to_ip(), bits).ok());
        count(net.is_some_and(|net| wanted.prefixes.contains(&Prefix { list, net })));
    }
    let is_of = |addr: IpAddr| addr.is_ipv4() == is_v4;
    let all = wanted.frontends.keys().filter(|f| is_of(f.addr)).count()
        + wanted.addresses.keys().filter(|a| is_of(**a)).count()
        + wanted.prefixes.iter().filter(|p| is_of(p.net.addr())).count();
    Ok(others == 0 && equal == all)
}

/// Slots that nothing refers to may hold anything.
fn holds_arrays(maps: &mut Maps, wanted: &Tables) -> io::Result<bool> {
    for (id, backend) in wanted.backends.iter() {
        let held = match backend.addr.is_ipv4() {
            true => get_backend(&mut maps.v4, id)?,
            false => get_backend(&mut maps.v6, id)?,
        };
        if held != *backend {
            return Ok(false);
        }
    }
    for (extent, ids) in &wanted.extents {
        for (place, id) in (extent.first..).zip(ids.iter()) {
            if maps.selection.get(place)? != id.0 {
                return Ok(false);
            }
        }
    }
    for (extent, wanted) in &wanted.maglevs {
        if digest(&pages::get(&mut maps.maglev, *extent)?) != *wanted {
            return Ok(false);
        }
    }
    Ok(true)
}
