//! The tables behind one interface per address family. Map statics cannot be generic, so a macro writes both
//! implementations.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::maps::lpm_trie::Key;
use svc_common::abi::*;
use svc_common::datapath::budget::{has_budget, spend};
use svc_common::datapath::presence::{Marks, Place};
use svc_common::datapath::state::STAMP_SHIFT;
use svc_common::family::{Family as _, V4, V6};
use svc_common::wire::rewrite::Rewrite;

use crate::entries::{self, ALWAYS, IF_ABSENT};
use crate::instructions::{opaque, set_bits};
use crate::maps::{self, CONFIG, Scratch};

/// Table reads and writes of the programs, by address family.
pub trait Tables: Rewrite {
    fn frontend(key: &FrontendKey<Self::Addr>) -> Option<&'static FrontendValue>;
    fn backend(id: u32) -> Option<&'static BackendValue<Self::Addr>>;
    fn address(addr: &Self::Addr) -> Option<AddressFlags>;
    /// A prefix of the list contains the address.
    fn is_listed(list: PrefixList, addr: &Self::Addr) -> bool;
    /// A flow's record in any table, also in the one that is being replaced.
    fn flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>>;
    /// A flow's record in any table but the one that is being replaced.
    fn present_flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>>;
    /// A flow's record in the flow table.
    fn assured_flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>>;
    /// The record of a flow that is not assured.
    fn unassured_flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>>;
    /// Copies a flow's record in any table but the one that is being replaced into `to`. Its readers see one value, so the
    /// verifier walks them once and not once per table.
    #[inline(always)]
    fn copy_flow(key: &FlowKey<Self::Addr>, to: &mut FlowRecord<Self::Addr>) -> bool {
        match Self::assured_flow(key) {
            // Copied without the stack, unlike an assignment.
            // SAFETY: values of two maps do not overlap.
            Some(record) => unsafe { core::ptr::copy_nonoverlapping(record, to, 1) },
            None => match Self::unassured_flow(key) {
                // SAFETY: as above.
                Some(record) => unsafe { core::ptr::copy_nonoverlapping(record, to, 1) },
                None => return false,
            },
        }
        true
    }
    /// Copies a record from the table that is being replaced if the new flow table has none.
    fn carry_over(key: &FlowKey<Self::Addr>);
    /// Inserts the record of a flow that is not assured, under a key that is absent in every table.
    fn claim_flow(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) -> bool;
    /// The same for an assured flow, whose key has no record that is not assured.
    fn claim_assured(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) -> bool;
    /// Inserts or replaces the record of a flow that is not assured.
    fn put_flow(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) -> bool;
    /// Moves a record to the flow table. If that table refuses it, the record stays.
    fn assure_flow(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>);
    fn remove_flow(key: &FlowKey<Self::Addr>);
    fn socket(key: &SockKey<Self::Addr>) -> Option<&'static SockValue<Self::Addr>>;
    fn insert_socket(key: &SockKey<Self::Addr>, value: &SockValue<Self::Addr>);
    fn remove_socket(key: &SockKey<Self::Addr>);
    fn affinity(client: &AffinityKey<Self::Addr>) -> Option<&'static mut AffinityValue>;
    fn insert_affinity(client: &AffinityKey<Self::Addr>, value: &AffinityValue);
    fn fragment(key: &FragmentKey<Self::Addr>) -> Option<FragmentPorts>;
    fn insert_fragment(key: &FragmentKey<Self::Addr>, ports: &FragmentPorts);
    /// The tick of the last packet of a connection of the node itself, by the reply's tuple.
    fn bypass(answer: &FlowKey<Self::Addr>) -> Option<&'static mut u32>;
    fn put_bypass(answer: &FlowKey<Self::Addr>, now: u32);
    fn scratch() -> Option<&'static mut Scratch<Self::Addr>>;
    /// SNAT address of an interface.
    fn snat_addr(iface: &Iface) -> &Self::Addr;
}

macro_rules! tables {
    ($family:ty, $frontends:ident, $backends:ident, $addrs:ident, $prefixes:ident, $flows:ident, $unassured:ident, $carried:ident, $sockets:ident, $affinity:ident, $fragments:ident, $bypass:ident, $flow_entries:ident, $socket_entries:ident, $affinity_entries:ident, $fragment_entries:ident, $bypass_entries:ident, $unassured_entries:ident, $scratch:ident, $snat:ident) => {
        impl Tables for $family {
            #[inline(always)]
            fn frontend(key: &FrontendKey<Self::Addr>) -> Option<&'static FrontendValue> {
                // SAFETY: values are replaced, never written in place, and freed by RCU.
                unsafe { maps::$frontends.get(key) }
            }
            #[inline(always)]
            fn backend(id: u32) -> Option<&'static BackendValue<Self::Addr>> {
                maps::$backends.get(id)
            }
            #[inline(always)]
            fn address(addr: &Self::Addr) -> Option<AddressFlags> {
                // SAFETY: as for frontends.
                unsafe { maps::$addrs.get(addr) }.copied()
            }
            #[inline(always)]
            fn is_listed(list: PrefixList, addr: &Self::Addr) -> bool {
                let bits = PrefixList::BITS + 8 * Self::ADDR_LEN as u32;
                let key = Key::new(bits, PrefixKey { list, addr: *addr });
                maps::$prefixes.get(&key).is_some()
            }
            #[inline(always)]
            fn flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>> {
                match Self::present_flow(key) {
                    // Only after a miss: packets of established flows pay nothing.
                    None if migration() != Migration::NONE => carried_flow::<Self>(key),
                    found => found,
                }
            }
            #[inline(always)]
            fn present_flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>> {
                match Self::assured_flow(key) {
                    None => Self::unassured_flow(key),
                    found => found,
                }
            }
            #[inline(always)]
            fn assured_flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>> {
                // SAFETY: map memory stays valid for the program's run; racing writers of stamp, state and next hop
                // write whole small integers that are each right on their own.
                maps::$flows.get_ptr_mut(key).map(|p| unsafe { &mut *p })
            }
            #[inline(always)]
            fn unassured_flow(key: &FlowKey<Self::Addr>) -> Option<&'static mut FlowRecord<Self::Addr>> {
                // SAFETY: as for the flow table.
                maps::$unassured.get_ptr_mut(key).map(|p| unsafe { &mut *p })
            }
            #[inline(always)]
            fn carry_over(key: &FlowKey<Self::Addr>) {
                // SAFETY: as for the flow table; a torn copy is one of small integers that are each right.
                if let Some(record) = unsafe { maps::$carried.get(key) } {
                    entries::make(&maps::$flows, EntryTable::$flow_entries, key, record);
                }
            }
            #[inline(always)]
            fn claim_flow(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) -> bool {
                if migration() != Migration::NONE {
                    Self::carry_over(key);
                }
                // Programs over an old flow table insert into the same table of flows that are not assured.
                Self::assured_flow(key).is_none()
                    && entries::make(&maps::$unassured, EntryTable::$unassured_entries, key, record)
            }
            #[inline(always)]
            fn claim_assured(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) -> bool {
                let migration = migration();
                // First in the old table, where programs at the other hooks insert as well.
                let has_claimed_old = migration == Migration::WRITE_BOTH
                    && maps::$carried.insert(key, record, IF_ABSENT).is_ok();
                if migration != Migration::NONE && !has_claimed_old {
                    Self::carry_over(key);
                }
                let has_claimed = entries::make(&maps::$flows, EntryTable::$flow_entries, key, record);
                if has_claimed_old && !has_claimed {
                    // The old table evicted the owner's record.
                    let _ = maps::$carried.remove(key);
                }
                has_claimed
            }
            #[inline(always)]
            fn put_flow(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) -> bool {
                // The record of the tuple's earlier flow would be found first.
                if Self::assured_flow(key).is_some() {
                    entries::remove(&maps::$flows, EntryTable::$flow_entries, key);
                }
                if migration() != Migration::NONE {
                    let _ = maps::$carried.remove(key);
                }
                entries::put(&maps::$unassured, EntryTable::$unassured_entries, key, record)
            }
            #[inline(always)]
            fn assure_flow(key: &FlowKey<Self::Addr>, record: &FlowRecord<Self::Addr>) {
                if migration() == Migration::WRITE_BOTH {
                    // On failure only the hooks over the new table know the flow.
                    let _ = maps::$carried.insert(key, record, ALWAYS);
                }
                // Inserted before it is removed: a packet on another CPU finds one of the two.
                if entries::put(&maps::$flows, EntryTable::$flow_entries, key, record) {
                    entries::remove(&maps::$unassured, EntryTable::$unassured_entries, key);
                }
            }
            #[inline(always)]
            fn remove_flow(key: &FlowKey<Self::Addr>) {
                entries::remove(&maps::$flows, EntryTable::$flow_entries, key);
                entries::remove(&maps::$unassured, EntryTable::$unassured_entries, key);
                if migration() != Migration::NONE {
                    // Otherwise the next packet would carry the record over again.
                    let _ = maps::$carried.remove(key);
                }
            }
            #[inline(always)]
            fn socket(key: &SockKey<Self::Addr>) -> Option<&'static SockValue<Self::Addr>> {
                // SAFETY: an entry is written once per key with the value it keeps.
                unsafe { maps::$sockets.get(key) }
            }
            #[inline(always)]
            fn insert_socket(key: &SockKey<Self::Addr>, value: &SockValue<Self::Addr>) {
                // A full LRU table evicts. Then getpeername returns the backend; nothing breaks.
                entries::put(&maps::$sockets, EntryTable::$socket_entries, key, value);
            }
            #[inline(always)]
            fn remove_socket(key: &SockKey<Self::Addr>) {
                // Most sockets have no entry, and a look-up is cheaper than a removal that finds none.
                if Self::socket(key).is_some() {
                    entries::remove(&maps::$sockets, EntryTable::$socket_entries, key);
                }
            }
            #[inline(always)]
            fn affinity(client: &AffinityKey<Self::Addr>) -> Option<&'static mut AffinityValue> {
                // SAFETY: map memory stays valid for the program's run; racing writers write two words that are each
                // right on their own, and a backend is never used without having been found in the extent.
                maps::$affinity.get_ptr_mut(client).map(|p| unsafe { &mut *p })
            }
            #[inline(always)]
            fn insert_affinity(client: &AffinityKey<Self::Addr>, value: &AffinityValue) {
                // A full LRU table evicts. Then another backend is selected. If another CPU inserted first, its entry
                // stays.
                entries::make(&maps::$affinity, EntryTable::$affinity_entries, client, value);
            }
            #[inline(always)]
            fn fragment(key: &FragmentKey<Self::Addr>) -> Option<FragmentPorts> {
                // SAFETY: two small integers that are written together.
                unsafe { maps::$fragments.get(key) }.copied()
            }
            #[inline(always)]
            fn insert_fragment(key: &FragmentKey<Self::Addr>, ports: &FragmentPorts) {
                // A full LRU table evicts. Then the remaining fragments of that packet are dropped and counted.
                entries::put(&maps::$fragments, EntryTable::$fragment_entries, key, ports);
            }
            #[inline(always)]
            fn bypass(answer: &FlowKey<Self::Addr>) -> Option<&'static mut u32> {
                // SAFETY: map memory stays valid for the program's run; racing writers all write the current time.
                maps::$bypass.get_ptr_mut(answer).map(|p| unsafe { &mut *p })
            }
            #[inline(always)]
            fn put_bypass(answer: &FlowKey<Self::Addr>, now: u32) {
                // On failure only the look-up of its socket recognises the connection.
                entries::put(&maps::$bypass, EntryTable::$bypass_entries, answer, &now);
            }
            #[inline(always)]
            fn scratch() -> Option<&'static mut Scratch<Self::Addr>> {
                // SAFETY: per-CPU, and a program is not interrupted by itself on its CPU.
                maps::$scratch.get_ptr_mut(0).map(|p| unsafe { &mut *p })
            }
            #[inline(always)]
            fn snat_addr(iface: &Iface) -> &Self::Addr {
                &iface.$snat
            }
        }
    };
}

tables!(
    V4, FRONTENDS4, BACKENDS4, ADDRESSES4, PREFIXES4, FLOWS4, UNASSURED4, CARRIED4, SOCKETS4, AFFINITY4,
    FRAGMENTS4, BYPASS4, Flows4, Sockets4, Affinity4, Fragments4, Bypass4, Unassured4, SCRATCH4, snat_v4
);
tables!(
    V6, FRONTENDS6, BACKENDS6, ADDRESSES6, PREFIXES6, FLOWS6, UNASSURED6, CARRIED6, SOCKETS6, AFFINITY6,
    FRAGMENTS6, BYPASS6, Flows6, Sockets6, Affinity6, Fragments6, Bypass6, Unassured6, SCRATCH6, snat_v6
);

/// How programs use the table that is being replaced.
#[inline(always)]
pub fn migration() -> Migration {
    maps::MIGRATION.get(0).copied().unwrap_or_default()
}

/// The record of a flow in the table that is being replaced. A call of its own: the established path does not contain
/// its instructions, and the verifier walks them once per caller instead of once per look-up.
#[inline(never)]
fn carried_flow<F: Tables>(key: &FlowKey<F::Addr>) -> Option<&'static mut FlowRecord<F::Addr>> {
    F::carry_over(key);
    F::present_flow(key)
}

/// Reads words of the presence filter. One look-up serves all words of a packet; the map always has its one value.
#[inline(always)]
pub fn presence() -> Option<impl Fn(u32) -> u64 + Copy> {
    let words = maps::PRESENCE.get_ptr(0)?.cast::<u64>();
    // SAFETY: places are within the filter, which the verifier checks again.
    Some(move |word| unsafe { words.add(word as usize).read() })
}

/// Adds marks to the presence filter, for a flow whose packets none of the daemon's marks announces.
#[inline(always)]
pub fn mark_presence(place: Place, marks: Marks) {
    let Some(words) = maps::PRESENCE.get_ptr_mut(0) else { return };
    let word = opaque(place.word as u64);
    // The compiler knows that the index is in range. The verifier of Linux 6.12 does not.
    if word >= limits::PRESENCE as u64 {
        return;
    }
    // Atomically: the daemon and other CPUs mark places of the same word.
    // SAFETY: as above.
    unsafe { set_bits(words.cast::<u64>().add(word as usize), place.marked(0, marks)) }
}

/// An address of this node.
#[inline(always)]
pub fn is_own<F: Tables>(addr: &F::Addr) -> bool {
    F::address(addr).is_some_and(|flags| flags.has(AddressFlags::LOCAL))
}

#[inline(always)]
pub fn iface(index: u32) -> Option<&'static Iface> {
    // SAFETY: values are replaced, never written in place, and freed by RCU.
    unsafe { maps::IFACES.get(index) }
}

#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(p) = maps::COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own slot.
        unsafe { *p += 1 }
    }
}

/// Counts packets, or the begin of a flow, for a service port.
#[inline(always)]
pub fn count_service(service: ServicePortId, flows: u64, packets: u64, bytes: u64) {
    if let Some(p) = maps::SERVICES.get_ptr_mut(service.0) {
        // SAFETY: this CPU's own slot.
        let c = unsafe { &mut *p };
        c.flows += flows;
        c.packets += packets;
        c.bytes += bytes;
    }
}

/// One more ICMP error may be sent in this tick.
#[inline(always)]
pub fn may_reject() -> bool {
    let Some(p) = maps::REJECTS.get_ptr_mut(0) else { return false };
    let now = now();
    // SAFETY: this CPU's own slot.
    let [tick, sent] = unsafe { &mut *p };
    if *tick != now {
        *tick = now;
        *sent = 0;
    }
    *sent += 1;
    *sent <= limits::REJECTS
}

/// This CPU may begin another flow.
#[inline(always)]
pub fn may_begin_flow() -> bool {
    CONFIG.load().new_flow_interval == 0
        || maps::NEW_FLOWS.get(0).is_none_or(|spent| has_budget(*spent, coarse_ns()))
}

/// Counts a new flow against this CPU's limit.
#[inline(always)]
pub fn spend_new_flow() {
    let interval = CONFIG.load().new_flow_interval;
    if interval != 0
        && let Some(p) = maps::NEW_FLOWS.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own slot.
        unsafe { *p = spend(*p, coarse_ns(), interval) }
    }
}

#[inline(always)]
fn coarse_ns() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// The current tick, as in the stamps of flow records.
#[inline(always)]
pub fn now() -> u32 {
    (coarse_ns() >> STAMP_SHIFT) as u32
}

/// Like [`now`], but reads the clock at most once per jiffy and CPU, because the kernel moves the coarse clock once a
/// jiffy.
#[inline(always)]
pub fn tick() -> u32 {
    let Some(p) = maps::CLOCK.get_ptr_mut(0) else { return now() };
    // SAFETY: no arguments; this CPU's own slot. If another program interrupts this one between the two writes, it
    // leaves other jiffies than these, and the clock is read again.
    unsafe {
        let jiffies = bpf_jiffies64();
        if (*p).jiffies != jiffies {
            (*p).tick = now() as u64;
            (*p).jiffies = jiffies;
        }
        (*p).tick as u32
    }
}
