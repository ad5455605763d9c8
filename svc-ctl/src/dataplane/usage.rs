//! How full the tables are that programs fill, and that of interfaces.

use super::entries::each_raw;
use super::pins::Pins;

/// How full a table is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// As people read it.
    pub table: &'static str,
    pub used: u64,
    pub capacity: u64,
}

/// Counts the entries of a pinned map; `table` is what people call it.
pub fn usage(pins: &Pins, map: &str, table: &'static str) -> anyhow::Result<Usage> {
    let mut used = 0;
    let info = each_raw(pins, map, |_, _| used += 1)?;
    Ok(Usage { table, used, capacity: info.capacity })
}
