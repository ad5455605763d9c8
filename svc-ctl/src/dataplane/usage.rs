//! Use of the tables that programs fill, and of the interface table.

use super::entries::each_raw;
use super::pins::Pins;

/// Use of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// The table's name for people.
    pub table: &'static str,
    pub used: u64,
    pub capacity: u64,
}

/// Counts the entries of a pinned map; `table` is its name for people.
pub fn usage(pins: &Pins, map: &str, table: &'static str) -> anyhow::Result<Usage> {
    let mut used = 0;
    let info = each_raw(pins, map, |_, _| used += 1)?;
    Ok(Usage { table, used, capacity: info.capacity })
}
