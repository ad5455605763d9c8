//! Queued entries of hashes and tries, written to the kernel in batches.

use std::collections::HashSet;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6, Port};

use super::{ANY, Failures};
use crate::dataplane::encode;
use crate::dataplane::maps::{FamilyBatches, Maps};
use crate::dataplane::shapes::TrieKey;
use crate::dataplane::sys::EntryMap;
use crate::plan::tables::{Frontend, FrontendEntry, MapOp, Prefix};

/// Writes to one map, at most one per key.
struct Queue<K, V> {
    /// Entries to write: indices of their ops, keys and values.
    put: (Vec<usize>, Vec<K>, Vec<V>),
    deleted: (Vec<usize>, Vec<K>),
    keys: HashSet<K>,
}

impl<K, V> Default for Queue<K, V> {
    fn default() -> Self {
        Self { put: Default::default(), deleted: Default::default(), keys: HashSet::new() }
    }
}

impl<K: aya::Pod + Eq + Hash, V: aya::Pod> Queue<K, V> {
    /// Queues an op: `value` is the new value, `None` removes the key.
    fn push(&mut self, index: usize, key: K, value: Option<V>) {
        self.keys.insert(key);
        match value {
            Some(value) => {
                self.put.0.push(index);
                self.put.1.push(key);
                self.put.2.push(value);
            }
            None => {
                self.deleted.0.push(index);
                self.deleted.1.push(key);
            }
        }
    }

    fn write_put(&mut self, map: &EntryMap<K, V>, failures: &mut Failures) {
        let (indices, keys, values) = std::mem::take(&mut self.put);
        map.update(&keys, &values, ANY, |at, err| fail(&indices, at, err, failures));
        self.keys.clear();
    }

    fn write_deleted(&mut self, map: &EntryMap<K, V>, failures: &mut Failures) {
        let (indices, keys) = std::mem::take(&mut self.deleted);
        map.delete(&keys, |at, err| fail(&indices, at, err, failures));
    }
}

fn fail(indices: &[usize], at: usize, err: io::Error, failures: &mut Failures) {
    failures.extend(indices.get(at).map(|index| (*index, err)));
}

/// Queued writes of one family.
struct FamilyQueues<A> {
    frontends: Queue<FrontendKey<A>, FrontendValue>,
    addresses: Queue<A, AddressFlags>,
    prefixes: Queue<TrieKey<A>, u8>,
}

impl<A> Default for FamilyQueues<A> {
    fn default() -> Self {
        Self { frontends: Queue::default(), addresses: Queue::default(), prefixes: Queue::default() }
    }
}

impl<A: MapAddr + Eq + Hash> FamilyQueues<A> {
    fn has_key_of(&self, op: &MapOp, addr: A) -> bool {
        match op {
            MapOp::PutFrontend(f, _) | MapOp::DeleteFrontend(f) => {
                self.frontends.keys.contains(&frontend_key(f, addr))
            }
            MapOp::PutAddress(..) | MapOp::DeleteAddress(_) => self.addresses.keys.contains(&addr),
            MapOp::PutPrefix(p) | MapOp::DeletePrefix(p) => self.prefixes.keys.contains(&prefix_key(p, addr)),
            _ => false,
        }
    }

    fn push(&mut self, index: usize, op: &MapOp, addr: A) {
        match op {
            MapOp::PutFrontend(f, entry) => {
                self.frontends.push(index, frontend_key(f, addr), Some(frontend_value(entry)));
            }
            MapOp::DeleteFrontend(f) => self.frontends.push(index, frontend_key(f, addr), None),
            MapOp::PutAddress(_, flags) => self.addresses.push(index, addr, Some(*flags)),
            MapOp::DeleteAddress(_) => self.addresses.push(index, addr, None),
            MapOp::PutPrefix(prefix) => self.prefixes.push(index, prefix_key(prefix, addr), Some(1)),
            MapOp::DeletePrefix(prefix) => self.prefixes.push(index, prefix_key(prefix, addr), None),
            _ => {}
        }
    }

    /// New entries first, then removals: make before break.
    fn write(&mut self, maps: &FamilyBatches<A>, failures: &mut Failures) {
        self.prefixes.write_put(&maps.prefixes, failures);
        self.frontends.write_put(&maps.frontends, failures);
        self.addresses.write_put(&maps.addresses, failures);
        self.addresses.write_deleted(&maps.addresses, failures);
        self.frontends.write_deleted(&maps.frontends, failures);
        self.prefixes.write_deleted(&maps.prefixes, failures);
    }
}

/// All queued writes.
#[derive(Default)]
pub struct Queues {
    v4: FamilyQueues<AddrV4>,
    v6: FamilyQueues<AddrV6>,
}

impl Queues {
    /// The op is about an entry of a hash or a trie.
    pub fn takes(&self, op: &MapOp) -> bool {
        address(op).is_some()
    }

    /// An earlier op about the same entry is queued.
    pub fn has_key_of(&self, op: &MapOp) -> bool {
        match address(op) {
            Some(IpAddr::V4(a)) => self.v4.has_key_of(op, encode::v4(a)),
            Some(IpAddr::V6(a)) => self.v6.has_key_of(op, encode::v6(a)),
            None => false,
        }
    }

    pub fn push(&mut self, index: usize, op: &MapOp) {
        match address(op) {
            Some(IpAddr::V4(a)) => self.v4.push(index, op, encode::v4(a)),
            Some(IpAddr::V6(a)) => self.v6.push(index, op, encode::v6(a)),
            None => {}
        }
    }

    /// Writes the whole queue.
    pub fn write(&mut self, maps: &Maps, failures: &mut Failures) {
        self.v4.write(&maps.v4.batches, failures);
        self.v6.write(&maps.v6.batches, failures);
    }
}

/// The address of the op's entry; `None` for a slot of an array.
fn address(op: &MapOp) -> Option<IpAddr> {
    match op {
        MapOp::PutFrontend(f, _) | MapOp::DeleteFrontend(f) => Some(f.addr),
        MapOp::PutAddress(addr, _) | MapOp::DeleteAddress(addr) => Some(*addr),
        MapOp::PutPrefix(prefix) | MapOp::DeletePrefix(prefix) => Some(prefix.net.addr()),
        MapOp::PutBackend(..)
        | MapOp::PutExtent(..)
        | MapOp::PutMaglev(..)
        | MapOp::ResetService(_)
        | MapOp::FreeExtent(_)
        | MapOp::FreeMaglev(_)
        | MapOp::FreeBackend(..) => None,
    }
}

pub fn frontend_key<A>(frontend: &Frontend, addr: A) -> FrontendKey<A> {
    FrontendKey { addr, port: Port::new(frontend.port), proto: frontend.proto, scope: frontend.scope }
}

fn frontend_value(entry: &FrontendEntry) -> FrontendValue {
    let FrontendEntry { service, flags, cluster, local, maglev, affinity } = *entry;
    FrontendValue { service, flags, cluster, local, maglev, affinity }
}

fn prefix_key<A: MapAddr>(prefix: &Prefix, addr: A) -> TrieKey<A> {
    let bits = |net: IpNet| PrefixList::BITS + u32::from(net.prefix_len());
    TrieKey { bits: bits(prefix.net), key: PrefixKey { list: prefix.list, addr } }
}
