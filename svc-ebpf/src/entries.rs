//! Counts the entries that programs insert into and remove from tables that evict by themselves. The daemon derives
//! the number of evictions. A replacing insert is not counted.

use aya_ebpf::maps::LruHashMap;
use svc_common::abi::{EntryCount, EntryTable};

use crate::instructions::increment;
use crate::maps::ENTRIES;

/// Only if absent: `BPF_NOEXIST`.
pub const IF_ABSENT: u64 = 1;
/// Replace or create: `BPF_ANY`.
pub const ALWAYS: u64 = 0;
/// Only if present: `BPF_EXIST`.
const IF_PRESENT: u64 = 2;

/// Inserts an entry under an absent key.
#[inline(always)]
pub fn make<K, V>(map: &LruHashMap<K, V>, table: EntryTable, key: &K, value: &V) -> bool {
    let is_made = map.insert(key, value, IF_ABSENT).is_ok();
    if is_made && let Some(count) = counts(table) {
        increment(&mut count.made);
    }
    is_made
}

/// Inserts or replaces an entry. Tries to insert first: the key is absent in most cases, and only this shows that it
/// was.
#[inline(always)]
pub fn put<K, V>(map: &LruHashMap<K, V>, table: EntryTable, key: &K, value: &V) -> bool {
    make(map, table, key, value) || map.insert(key, value, IF_PRESENT).is_ok()
}

#[inline(always)]
pub fn remove<K, V>(map: &LruHashMap<K, V>, table: EntryTable, key: &K) {
    // It is no failure if the entry is absent.
    if map.remove(key).is_ok()
        && let Some(count) = counts(table)
    {
        increment(&mut count.removed);
    }
}

#[inline(always)]
fn counts(table: EntryTable) -> Option<&'static mut EntryCount> {
    // SAFETY: this CPU's own slot.
    ENTRIES.get_ptr_mut(table as u32).map(|p| unsafe { &mut *p })
}
