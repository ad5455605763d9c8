//! Names, offsets and sizes of the fields of keys and values. The daemon pins this description beside its tables, and a
//! test compares it with the one that was stored when the ABI number was given.

use core::mem::offset_of;

use super::*;
use crate::addr::{AddrV4, AddrV6};

/// A field of a key or a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    pub name: &'a str,
    /// Octets before it.
    pub offset: usize,
    pub octets: usize,
}

/// A key or value of a pinned map.
pub trait Layout: Sized {
    /// Every field, padding included.
    const FIELDS: &'static [Field<'static>];
}

/// A type without fields is one field of this name.
const WHOLE: &str = "value";

/// The size of a field.
const fn octets_of<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! fields {
    ($($field:ident),+) => {
        const FIELDS: &'static [Field<'static>] = &[$(Field {
            name: stringify!($field),
            offset: offset_of!(Self, $field),
            octets: octets_of(|whole: &Self| &whole.$field),
        }),+];
    };
}

macro_rules! layout {
    ($($type:ident: $($field:ident),+;)+) => {$(
        impl Layout for $type { fields! { $($field),+ } }
    )+};
}

/// Like `layout`, for types that are generic over the family's address.
macro_rules! family_layout {
    ($($type:ident: $($field:ident),+;)+) => {$(
        impl<A: MapAddr> Layout for $type<A> { fields! { $($field),+ } }
    )+};
}

macro_rules! whole {
    ($($type:ty),+) => {$(
        impl Layout for $type {
            const FIELDS: &'static [Field<'static>] =
                &[Field { name: WHOLE, offset: 0, octets: size_of::<$type>() }];
        }
    )+};
}

whole! { u8, u32, u64, AddrV4, AddrV6, AddressFlags, Migration }

impl<const N: usize> Layout for [u64; N] {
    const FIELDS: &'static [Field<'static>] = &[Field { name: WHOLE, offset: 0, octets: size_of::<Self>() }];
}

impl Layout for MaglevPage {
    /// The name stands for the algorithm that fills tables. Another algorithm gets another name, so that no page is
    /// carried over to it.
    const FIELDS: &'static [Field<'static>] =
        &[Field { name: "rendezvous_bounded", offset: 0, octets: size_of::<Self>() }];
}

layout! {
    FrontendValue: service, flags, cluster, local, maglev, affinity;
    Iface: role, bridge, snat_v4, snat_v6, mac, flags;
    AffinityValue: backend, until;
    FragmentPorts: sport, dport;
    EntryCount: made, removed;
    ServiceCounters: flows, packets, bytes;
    AnnouncedKey: addr, ifindex;
    Announced: mac, state, _pad;
    NodeMac: octets, _pad;
}

family_layout! {
    FrontendKey: addr, port, proto, scope;
    BackendValue: addr, port, locality, _pad;
    PrefixKey: list, addr;
    FlowKey: src, dst, sport, dport, proto, _pad;
    FlowRecord: src, dst, sport, dport, addr_delta, port_delta, service, stamp, oif, mtu, smac, dmac, state, direction,
        hook, exit, twin_hook, wildcard_source;
    AffinityKey: service, netns, addr;
    SockKey: cookie, addr, port, _pad;
    SockValue: addr, port, _pad;
    FragmentKey: src, dst, id, proto, _pad;
}
