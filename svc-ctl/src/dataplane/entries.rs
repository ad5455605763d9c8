//! Reads and removes entries of a pinned table while programs write to it. An entry that a pass misses is found by
//! the next.

use std::os::fd::AsFd as _;

use anyhow::Context as _;
use aya::Pod;
use aya::maps::{HashMap, MapData, PerCpuArray};

use super::maps::open;
use super::pins::Pins;
use super::sys;

/// The kernel's information on a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableInfo {
    /// The map's id; it changes when the table is replaced.
    pub id: u32,
    pub capacity: u64,
}

/// Reads a pinned table in batches, with keys and values of these types.
pub fn each<K: Pod, V: Pod>(
    pins: &Pins,
    name: &str,
    mut each: impl FnMut(K, V),
) -> anyhow::Result<TableInfo> {
    each_raw(pins, name, |key, value| {
        if let (Some(key), Some(value)) = (sys::read(key), sys::read(value)) {
            each(key, value);
        }
    })
}

/// Reads a pinned table in batches, as octets.
pub fn each_raw(pins: &Pins, name: &str, each: impl FnMut(&[u8], &[u8])) -> anyhow::Result<TableInfo> {
    let path = pins.map(name);
    let subject = || format!("reading {}", path.display());
    let map = MapData::from_pin(&path).with_context(subject)?;
    let info = map.info().with_context(subject)?;
    let sizes = (info.key_size() as usize, info.value_size() as usize);
    sys::each_entry(map.fd().as_fd(), sizes, each).with_context(subject)?;
    Ok(TableInfo { id: info.id(), capacity: u64::from(info.max_entries()) })
}

/// Removes the entries of these keys if `is_over` still holds; returns the number. A program may have refreshed or
/// replaced an entry since the pass read it.
pub fn remove_each<K: Pod, V: Pod>(
    pins: &Pins,
    name: &str,
    keys: &[K],
    is_over: impl Fn(&K, &V) -> bool,
) -> anyhow::Result<u64> {
    if keys.is_empty() {
        return Ok(0);
    }
    let mut map: HashMap<MapData, K, V> = open(pins, name)?;
    let mut removed = 0;
    for key in keys {
        if map.get(key, 0).is_ok_and(|value| is_over(key, &value)) && map.remove(key).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Opens a pinned table to look up and remove single entries.
pub fn open_hash<K: Pod, V: Pod>(pins: &Pins, name: &str) -> anyhow::Result<HashMap<MapData, K, V>> {
    open(pins, name)
}

/// The first entries of a pinned per-CPU array, each with one value per CPU. An array that an earlier version made may have
/// fewer.
pub fn per_cpu<V: Pod>(pins: &Pins, name: &str, count: u32) -> anyhow::Result<Vec<Vec<V>>> {
    let array: PerCpuArray<MapData, V> = open(pins, name)?;
    let entry = |index| anyhow::Ok(array.get(&index, 0).with_context(|| format!("reading {name}"))?.to_vec());
    (0..count.min(array.len())).map(entry).collect()
}
