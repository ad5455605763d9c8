//! Look-ups in the live tables, in the order in which the programs make them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, MapData};
use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::affinity::is_over;
use svc_common::datapath::choose::accepts_node_port;
use svc_common::datapath::select::{maglev_place, tuple_hash};

use super::affinity::{now, seconds_left};
use super::dry_run::Net;
use super::encode::Encode as _;
use super::maps::{Maps, open};
use super::pins::Pins;

/// A frontend, and the properties of the address that was looked up.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub frontend: Option<(Scope, FrontendValue)>,
    pub address: AddressFlags,
}

/// A backend of an extent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    pub id: BackendId,
    pub address: SocketAddr,
    pub locality: Locality,
}

/// The frontend at a destination: the exact address first, then NodePort (SEM-024). `is_host`: this node dials.
pub fn frontend<F: Net>(
    maps: &Maps,
    (address, port): (F::Addr, svc_common::addr::Port),
    proto: Proto,
    is_host: bool,
) -> Found {
    let tables = F::maps(maps);
    let flags = tables.addresses.get(&address, 0).unwrap_or_default();
    let look = |addr, scope| {
        let value = tables.frontends.get(&FrontendKey { addr, port, proto, scope }, 0).ok()?;
        Some((scope, value))
    };
    let exact = look(address, Scope::ADDRESS);
    let by_port = || {
        if accepts_node_port(flags, is_host) { look(F::Addr::default(), Scope::NODE_PORT) } else { None }
    };
    Found { frontend: exact.or_else(by_port), address: flags }
}

/// The source or destination is in a list of prefixes.
pub fn is_listed<F: Net>(maps: &Maps, list: PrefixList, addr: F::Addr) -> bool {
    let bits = PrefixList::BITS + 8 * F::ADDR_LEN as u32;
    F::maps(maps).prefixes.get(&Key::new(bits, PrefixKey { list, addr }), 0).is_ok()
}

/// The backends of an extent, in its order.
pub fn members<F: Net>(maps: &mut Maps, extent: Extent) -> io::Result<Vec<Member>> {
    let mut members = Vec::new();
    for place in extent.first..extent.first.saturating_add(extent.count) {
        let id = BackendId(maps.selection.get(place)?);
        let BackendValue { addr, port, locality, .. } = F::maps_mut(maps).backends.get(id.0)?;
        let ip: IpAddr = addr.to_ip();
        members.push(Member { id, address: (ip, port.number()).into(), locality });
    }
    Ok(members)
}

/// The place of a tuple in a Maglev table, the number of places, and the index that is there.
pub fn maglev<F: Net>(
    maps: &mut Maps,
    table: Extent,
    key: &FlowKey<F::Addr>,
) -> io::Result<(u32, u32, usize)> {
    let place = maglev_place(tuple_hash::<F>(key), table.count);
    let MaglevPage(octets) = maps.maglev.get(table.first.saturating_add(place.page))?;
    let at = |offset: u32| octets.get(offset as usize).copied().unwrap_or_default();
    let (octets_each, index) = match place.is_wide {
        true => (2, u16::from_ne_bytes([at(place.offset), at(place.offset + 1)]).into()),
        false => (1, usize::from(at(place.offset))),
    };
    let places_of_page = MaglevPage::OCTETS / octets_each;
    let number = place.page * places_of_page + place.offset / octets_each;
    Ok((number, table.count * places_of_page, index))
}

/// The backend of a client's live session affinity entry, and the seconds that it has left.
pub fn affinity<F: Net>(
    pins: &Pins,
    client: &AffinityKey<F::Addr>,
) -> anyhow::Result<Option<(BackendId, u32)>> {
    let entries: HashMap<MapData, AffinityKey<F::Addr>, AffinityValue> = open(pins, F::AFFINITY)?;
    let (Ok(value), now) = (entries.get(client, 0), now()) else { return Ok(None) };
    Ok((!is_over(now, value.until)).then(|| (value.backend, seconds_left(now, value.until))))
}
