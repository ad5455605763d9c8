//! The tables of one address family that a dry run copies from, and those that it runs over.

use std::net::IpAddr;

use anyhow::Context as _;
use aya::maps::{HashMap, MapData, MapError, PerCpuArray};
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::family::{Family, V4, V6};
use svc_common::wire::parse::Parse;

use crate::dataplane::encode::{Encode, v4, v6};
use crate::dataplane::map_set::MapSet;
use crate::dataplane::maps::{FamilyMaps, Maps, by_aya};

/// An address family with its tables.
pub trait Net: Parse<Addr: Encode> {
    const FLOWS: &'static str;
    const UNASSURED: &'static str;
    const AFFINITY: &'static str;
    const BYPASS: &'static str;
    fn maps(maps: &Maps) -> &FamilyMaps<Self::Addr>;
    fn maps_mut(maps: &mut Maps) -> &mut FamilyMaps<Self::Addr>;
    /// `None` for an address of the other family.
    fn addr(ip: IpAddr) -> Option<Self::Addr>;
    fn snat_addr(iface: &Iface) -> Self::Addr;
}

impl Net for V4 {
    const FLOWS: &'static str = names::FLOWS4;
    const UNASSURED: &'static str = names::UNASSURED4;
    const AFFINITY: &'static str = names::AFFINITY4;
    const BYPASS: &'static str = names::BYPASS4;

    fn maps(maps: &Maps) -> &FamilyMaps<AddrV4> {
        &maps.v4
    }

    fn maps_mut(maps: &mut Maps) -> &mut FamilyMaps<AddrV4> {
        &mut maps.v4
    }

    fn addr(ip: IpAddr) -> Option<AddrV4> {
        if let IpAddr::V4(ip) = ip { Some(v4(ip)) } else { None }
    }

    fn snat_addr(iface: &Iface) -> AddrV4 {
        iface.snat_v4
    }
}

impl Net for V6 {
    const FLOWS: &'static str = names::FLOWS6;
    const UNASSURED: &'static str = names::UNASSURED6;
    const AFFINITY: &'static str = names::AFFINITY6;
    const BYPASS: &'static str = names::BYPASS6;

    fn maps(maps: &Maps) -> &FamilyMaps<AddrV6> {
        &maps.v6
    }

    fn maps_mut(maps: &mut Maps) -> &mut FamilyMaps<AddrV6> {
        &mut maps.v6
    }

    fn addr(ip: IpAddr) -> Option<AddrV6> {
        if let IpAddr::V6(ip) = ip { Some(v6(ip)) } else { None }
    }

    fn snat_addr(iface: &Iface) -> AddrV6 {
        iface.snat_v6
    }
}

/// A flow's key and record.
pub type FlowEntry<A> = (FlowKey<A>, FlowRecord<A>);

/// The live flow tables, as programs read them.
pub struct LiveFlows<F: Net> {
    present: FlowTable<F>,
    unassured: FlowTable<F>,
    /// The table that is being replaced.
    old: Option<FlowTable<F>>,
}

type FlowTable<F> = HashMap<MapData, FlowKey<<F as Family>::Addr>, FlowRecord<<F as Family>::Addr>>;

impl<F: Net> LiveFlows<F> {
    pub(super) fn over(live: &MapSet, old: Option<&MapSet>) -> anyhow::Result<Self> {
        let old = old.map(|old| by_aya(old, F::FLOWS)).transpose()?;
        Ok(Self { present: by_aya(live, F::FLOWS)?, unassured: by_aya(live, F::UNASSURED)?, old })
    }

    /// The record of a tuple, from the first table that has one.
    pub fn get(&self, key: &FlowKey<F::Addr>) -> anyhow::Result<Option<FlowRecord<F::Addr>>> {
        for table in [Some(&self.present), Some(&self.unassured), self.old.as_ref()].into_iter().flatten() {
            match table.get(key, 0) {
                Ok(record) => return Ok(Some(record)),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(error).with_context(|| format!("reading {}", F::FLOWS)),
            }
        }
        Ok(None)
    }
}

/// Tables that programs write.
pub struct DryTables<F: Net> {
    flows: FlowTable<F>,
    unassured: FlowTable<F>,
    pub affinity: HashMap<MapData, AffinityKey<F::Addr>, AffinityValue>,
    pub bypass: HashMap<MapData, FlowKey<F::Addr>, u32>,
    counters: PerCpuArray<MapData, u64>,
}

impl<F: Net> DryTables<F> {
    pub fn over(set: &MapSet) -> anyhow::Result<Self> {
        Ok(Self {
            flows: by_aya(set, F::FLOWS)?,
            unassured: by_aya(set, F::UNASSURED)?,
            affinity: by_aya(set, F::AFFINITY)?,
            bypass: by_aya(set, F::BYPASS)?,
            counters: by_aya(set, names::COUNTERS)?,
        })
    }

    /// Removes the entries of earlier runs.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        let clients: Vec<_> = self.affinity.keys().collect::<Result<_, _>>()?;
        clients.iter().try_for_each(|key| self.affinity.remove(key))?;
        let replies: Vec<_> = self.bypass.keys().collect::<Result<_, _>>()?;
        replies.iter().try_for_each(|key| self.bypass.remove(key))?;
        self.replace_flows(&[])
    }

    /// Empties the flow tables and fills the first one with copies.
    pub(super) fn replace_flows(&mut self, copies: &[FlowEntry<F::Addr>]) -> anyhow::Result<()> {
        for table in [&mut self.flows, &mut self.unassured] {
            let old: Vec<_> = table.keys().collect::<Result<_, _>>()?;
            old.iter().try_for_each(|key| table.remove(key))?;
        }
        Ok(copies.iter().try_for_each(|(key, record)| self.flows.insert(key, record, 0))?)
    }

    /// The tuples that have records.
    pub(super) fn tuples(&self) -> anyhow::Result<Vec<FlowKey<F::Addr>>> {
        Ok(self.flows.keys().chain(self.unassured.keys()).collect::<Result<_, _>>()?)
    }

    /// The record of a tuple.
    pub(super) fn flow(&self, key: &FlowKey<F::Addr>) -> Option<FlowRecord<F::Addr>> {
        self.flows.get(key, 0).or_else(|_| self.unassured.get(key, 0)).ok()
    }

    pub(super) fn counter(&self, counter: Counter) -> anyhow::Result<u64> {
        Ok(self.counters.get(&(counter as u32), 0)?.iter().sum())
    }

    /// All counters, in the order of [`Counter::ALL`].
    pub(super) fn counters(&self) -> anyhow::Result<Vec<u64>> {
        Counter::ALL.iter().map(|counter| self.counter(*counter)).collect()
    }
}
