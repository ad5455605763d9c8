//! The entries of a table that the programs fill meanwhile: what a pass misses is for the next one.

use std::os::fd::AsFd as _;

use aya::Pod;
use aya::maps::{HashMap, MapData};

use super::maps::open;
use super::pins::Pins;
use super::sys;

/// Reads a pinned table whose keys and values are of these types.
pub fn each<K: Pod, V: Pod>(pins: &Pins, name: &str, mut each: impl FnMut(K, V)) -> anyhow::Result<()> {
    let map = MapData::from_pin(pins.map(name))?;
    sys::each_entry(map.fd().as_fd(), (size_of::<K>(), size_of::<V>()), |key, value| {
        if let (Some(key), Some(value)) = (sys::read(key), sys::read(value)) {
            each(key, value);
        }
    })?;
    Ok(())
}

/// Removes what is over; answers how many entries.
pub fn remove_where<K: Pod, V: Pod>(
    pins: &Pins,
    name: &str,
    is_over: impl Fn(&K, &V) -> bool,
) -> anyhow::Result<u64> {
    let mut found: Vec<K> = Vec::new();
    each(pins, name, |key, value| {
        if is_over(&key, &value) {
            found.push(key);
        }
    })?;
    if found.is_empty() {
        return Ok(0);
    }
    let mut map: HashMap<MapData, K, V> = open(pins, name)?;
    let mut removed = 0;
    for key in found {
        // Evicted or refreshed meanwhile: it is not ours to remove.
        if map.get(&key, 0).is_ok_and(|value| is_over(&key, &value)) && map.remove(&key).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}
