//! A pinned hash that a row fills.

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::{HashMap, Map, MapData};
use svc_ctl::dataplane::pins::Pins;

pub type Table<K, V> = HashMap<MapData, K, V>;

pub fn open(pins: &Pins, name: &str) -> Result<Map> {
    let data = MapData::from_pin(pins.map(name)).with_context(|| format!("opening {name}"))?;
    Ok(Map::from_map_data(data)?)
}

pub fn clear<K: Pod, V: Pod>(table: &mut Table<K, V>) -> Result<()> {
    let keys: Result<Vec<_>, _> = table.keys().collect();
    Ok(keys?.iter().try_for_each(|key| table.remove(key))?)
}
