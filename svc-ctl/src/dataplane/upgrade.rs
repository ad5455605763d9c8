//! Start beside tables of another layout. Programs of another version serve over those tables until the tables of this
//! version are filled; flows, affinity and sockets are in maps that both use. Such records name the ids of Services and
//! backends, so the new tables begin with the contents of the tables in force, field by field. The plan then writes what
//! differs. Interfaces that appear before that get programs over the new tables, and are served by those contents.
//!
//! The tables in force are those that the hooks use. All other tables are of no use: a half-made set, or one from before an
//! upgrade that is now taken back.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use svc_common::abi::names::*;

use super::layout::{Conversion, TableLayout, find, render, size};
use super::map_set::{HeldMap, MapSet, made, pin_instead};
use super::pins::Pins;
use super::shapes::{PLANNED, TableSizes, layouts};
use super::sys::{self, MapKind, MapShape};

/// Pin of the text that describes the tables beside it.
const LAYOUT: &str = "LAYOUT";

/// Pins the layout of this version's tables beside them.
pub fn pin_layout(pins: &Pins) -> anyhow::Result<()> {
    let (path, text) = (pins.tables().join(LAYOUT), render(&layouts(TABLES)));
    if pinned_layout(&pins.tables()).is_ok_and(|pinned| pinned == text) {
        return Ok(());
    }
    let octets = u32::try_from(text.len())?;
    let shape = MapShape {
        name: LAYOUT,
        kind: MapKind::Array,
        key_size: 4,
        value_size: octets,
        max_entries: 1,
        flags: 0,
    };
    let map = made(&shape)?;
    sys::update_entry(map.fd.as_fd(), &[0; 4], text.as_bytes()).context("writing LAYOUT")?;
    pin_instead(&map, &path)
}

fn pinned_layout(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(LAYOUT);
    let HeldMap { fd, info } = held(&path).with_context(|| format!("opening {}", path.display()))?;
    ensure!(
        (info.kind, info.key_size) == (MapKind::Array as u32, 4),
        "{} is another kind of map",
        path.display()
    );
    let mut text = vec![0; (info.value_size as usize).next_multiple_of(8)];
    sys::look_up_entry(fd.as_fd(), &[0; 4], &mut text)
        .with_context(|| format!("reading {}", path.display()))?;
    text.truncate(info.value_size as usize);
    Ok(String::from_utf8(text)?)
}

/// Makes new tables beside those in force, which have another layout, with the ids and at least the capacity of those.
/// Removes earlier tables of this version: nothing has kept them current.
pub fn begin(pins: &Pins, in_force: &BTreeSet<u32>, sizes: &TableSizes) -> anyhow::Result<MapSet> {
    let folder = folder_in_force(pins, in_force)?;
    let entries = |name: &str| {
        folder.as_ref().and_then(|folder| held(&folder.join(name)).ok()).map_or(0, |map| map.info.max_entries)
    };
    let capacity = TableSizes::of(entries).capacity.max(sizes.capacity);
    let removed = pins.remove_tables()?;
    if removed != 0 {
        tracing::info!(removed, "removed earlier tables of this version: no hook uses them");
    }
    pins.make()?;
    let maps = MapSet::open_or_make(pins, &TableSizes { capacity, ..*sizes })?;
    let folder = folder.context("they are not pinned");
    if let Err(error) = folder.and_then(|folder| copy_tables(&folder, &maps)) {
        tracing::warn!(
            error = format!("{error:#}"),
            "cannot read the tables in force: session affinity begins anew"
        );
    }
    Ok(maps)
}

/// The folder of another version whose tables hooks use.
fn folder_in_force(pins: &Pins, in_force: &BTreeSet<u32>) -> anyhow::Result<Option<PathBuf>> {
    let is_in_force =
        |folder: &PathBuf| held(&folder.join(FRONTENDS4)).is_ok_and(|map| in_force.contains(&map.info.id));
    Ok(pins.other_versions()?.into_iter().find(is_in_force))
}

fn held(pin: &Path) -> io::Result<HeldMap> {
    let fd = sys::open_pin(pin)?;
    let info = sys::map_info(fd.as_fd())?;
    Ok(HeldMap { fd, info })
}

/// Copies the entries of the tables in a folder into the new ones. A table that cannot be read is left out.
fn copy_tables(folder: &Path, new: &MapSet) -> anyhow::Result<()> {
    let text = pinned_layout(folder)?;
    let mut entries = 0;
    // The presence filter is made from the others.
    for table in layouts(&PLANNED).into_iter().filter(|layout| layout.name != PRESENCE) {
        match copy_table(&folder.join(table.name), &text, &table, new) {
            Ok(copied) => entries += copied,
            Err(error) => tracing::warn!(
                table = table.name,
                error = format!("{error:#}"),
                "cannot read a table in force: its entries are planned anew"
            ),
        }
    }
    tracing::info!(entries, "copied the tables in force");
    Ok(())
}

/// Copies one table; returns the number of its entries.
fn copy_table(pin: &Path, text: &str, after: &TableLayout<'_>, new: &MapSet) -> anyhow::Result<usize> {
    let before = find(text, after.name).context("the pinned layout does not have it")?;
    let map = held(pin).with_context(|| format!("opening {}", pin.display()))?;
    let sizes = (map.info.key_size as usize, map.info.value_size as usize);
    ensure!(
        (size(&before.key), size(&before.value)) == (Some(sizes.0), Some(sizes.1)),
        "the map has other sizes than the pinned layout"
    );
    let key = Conversion::between(&before.key, &after.key);
    let value = Conversion::between(&before.value, &after.value);
    ensure!(key.is_complete(), "a field of the key is missing");
    let to = new.fd(after.name)?;
    let mut copied = 0;
    sys::each_entry(map.fd.as_fd(), sizes, |old_key, old_value| {
        // Unused places of arrays are zero.
        let pair = key.convert(old_key).zip(value.convert(old_value));
        let pair = pair.filter(|_| old_value.iter().any(|octet| *octet != 0));
        // An entry that is missing is planned like any other.
        copied += usize::from(pair.is_some_and(|(key, value)| sys::update_entry(to, &key, &value).is_ok()));
    })?;
    Ok(copied)
}
