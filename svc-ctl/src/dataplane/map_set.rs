//! A complete set of maps for programs, held by descriptors.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use svc_common::abi::names;

use super::pins::Pins;
use super::port_secret;
use super::shapes::{PLANNED, TableSizes, map_shapes};
use super::sys::{self, MapInfo, MapShape};

/// Entries of the maps of a dry run. The kernel's LRU lists need some for each CPU.
const DRY_ENTRIES: u32 = 1_024;

/// A map and the kernel's information on it.
#[derive(Debug)]
pub struct HeldMap {
    pub fd: OwnedFd,
    pub info: MapInfo,
}

/// Maps by name. A clone holds the same maps.
#[derive(Clone, Debug, Default)]
pub struct MapSet(BTreeMap<&'static str, Arc<HeldMap>>);

impl MapSet {
    /// Opens the pinned maps, whatever their size, and makes and pins missing ones. A pinned map of another shape is
    /// replaced, which a log line says.
    pub fn open_or_make(pins: &Pins, sizes: &TableSizes) -> anyhow::Result<Self> {
        let mut set = BTreeMap::new();
        for shape in map_shapes(sizes) {
            let path = pins.map(shape.name);
            let found = match sys::open_pin(&path) {
                Ok(fd) => opened(fd, &shape, &path).map(Some).unwrap_or_else(|error| {
                    tracing::warn!(error = format!("{error:#}"), "a new map replaces a pinned one");
                    None
                }),
                Err(err) if err.kind() == io::ErrorKind::NotFound => None,
                Err(err) => return Err(err).with_context(|| format!("opening {}", path.display())),
            };
            let map = match found {
                Some(map) => map,
                None => {
                    let map = made(&shape)?;
                    if shape.name == names::PORT_SECRET {
                        port_secret::fill(map.fd.as_fd())?;
                    }
                    pin_instead(&map, &path)?;
                    map
                }
            };
            set.insert(shape.name, Arc::new(map));
        }
        Ok(Self(set))
    }

    /// Opens the pinned maps; a missing one is an error.
    pub fn open(pins: &Pins) -> anyhow::Result<Self> {
        let mut set = BTreeMap::new();
        for shape in map_shapes(&TableSizes::default()) {
            let path = pins.map(shape.name);
            let fd = sys::open_pin(&path).with_context(|| format!("opening {}", path.display()))?;
            set.insert(shape.name, Arc::new(opened(fd, &shape, &path)?));
        }
        Ok(Self(set))
    }

    /// The set with new, empty maps in place of those with another number of entries, and the names of the new maps.
    pub fn resized(&self, sizes: &TableSizes) -> anyhow::Result<(Self, Vec<&'static str>)> {
        let (mut set, mut new) = (self.clone(), Vec::new());
        for shape in map_shapes(sizes) {
            let is_kept = self.0.get(shape.name).is_some_and(|map| map.info.max_entries == shape.max_entries);
            if !is_kept {
                set.0.insert(shape.name, Arc::new(made(&shape)?));
                new.push(shape.name);
            }
        }
        Ok((set, new))
    }

    /// Replaces and pins the tables that the plan fills by copies, so that programs over the replaced ones see no write.
    pub fn separate(&mut self, pins: &Pins) -> anyhow::Result<()> {
        let sizes = self.sizes();
        for shape in map_shapes(&sizes).into_iter().filter(|shape| PLANNED.contains(&shape.name)) {
            let old = self.get(shape.name)?;
            let shape = MapShape { max_entries: old.info.max_entries, ..shape };
            let copy = made(&shape)?;
            let octets = (old.info.key_size as usize, old.info.value_size as usize);
            sys::each_entry(old.fd.as_fd(), octets, |key, value| {
                // If there is no memory for an entry, it is missing like any other, and is planned again.
                let _ = sys::update_entry(copy.fd.as_fd(), key, value);
            })
            .with_context(|| format!("copying {}", shape.name))?;
            pin_instead(&copy, &pins.map(shape.name))?;
            self.0.insert(shape.name, Arc::new(copy));
        }
        Ok(())
    }

    /// The set with these maps in place of those of the same names.
    pub fn with(&self, maps: impl IntoIterator<Item = (&'static str, Arc<HeldMap>)>) -> Self {
        let mut set = self.clone();
        set.0.extend(maps);
        set
    }

    /// The tables of a program for dry runs: those that programs only read are of this set, and all others are its own. A program
    /// that is loaded already uses the maps of these ids; tables that it lacks are made, small and empty.
    pub fn of_dry_program(&self, used: &[u32]) -> anyhow::Result<Self> {
        let mut set = self.clone();
        set.0.retain(|name, _| is_only_read(name));
        for id in used {
            let fd = sys::map_by_id(*id).context("opening a map of a program")?;
            let info = sys::map_info(fd.as_fd())?;
            if let Some(name) = self.0.keys().find(|name| info.is_called(name)) {
                set.0.insert(name, Arc::new(HeldMap { fd, info }));
            }
        }
        for shape in map_shapes(&self.sizes()) {
            if let Entry::Vacant(place) = set.0.entry(shape.name) {
                let shape = MapShape { max_entries: shape.max_entries.min(DRY_ENTRIES), ..shape };
                place.insert(Arc::new(made(&shape)?));
            }
        }
        Ok(set)
    }

    /// Fails unless this set of a dry run reads the tables of `live` and writes none of them.
    pub fn check_apart(&self, live: &Self) -> anyhow::Result<()> {
        for (name, map) in &self.0 {
            match (is_only_read(name), live.has(map.info.id)) {
                (false, true) => bail!("a dry run would write the live table {name}"),
                (true, false) => bail!("a dry run would read another table than the live {name}"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Replaces this map by a new, empty one of the same shape.
    pub fn renew(&mut self, name: &'static str) -> anyhow::Result<()> {
        let sizes = self.sizes();
        let shape = map_shapes(&sizes).into_iter().find(|shape| shape.name == name);
        let shape = shape.with_context(|| format!("no map {name}"))?;
        self.0.insert(name, Arc::new(made(&shape)?));
        Ok(())
    }

    pub fn get(&self, name: &str) -> anyhow::Result<&Arc<HeldMap>> {
        self.0.get(name).with_context(|| format!("no map {name}"))
    }

    pub fn fd(&self, name: &str) -> anyhow::Result<BorrowedFd<'_>> {
        Ok(self.get(name)?.fd.as_fd())
    }

    /// The kernel's ids of the maps, by name.
    pub fn ids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.0.iter().map(|(name, map)| (*name, map.info.id))
    }

    /// The set has a table of the plan with that id.
    pub fn has_planned(&self, id: u32) -> bool {
        PLANNED.iter().any(|name| self.0.get(name).is_some_and(|map| map.info.id == id))
    }

    /// The set has a map with that id.
    pub fn has(&self, id: u32) -> bool {
        self.0.values().any(|map| map.info.id == id)
    }

    /// If the map with that id is not of this set but has the name of one of its maps: that name.
    pub fn other_of_name(&self, id: u32) -> Option<&'static str> {
        if self.has(id) {
            return None;
        }
        let info = sys::map_by_id(id).and_then(|fd| sys::map_info(fd.as_fd())).ok()?;
        self.0.keys().copied().find(|name| info.is_called(name))
    }

    /// Number of entries of the maps.
    pub fn sizes(&self) -> TableSizes {
        TableSizes::of(|name| self.0.get(name).map_or(0, |map| map.info.max_entries))
    }

    /// Pins each map at the path for its name, unless it is pinned there; returns the number.
    pub fn pin(&self, path: impl Fn(&str) -> PathBuf) -> anyhow::Result<u64> {
        let mut pinned = 0;
        for (name, map) in &self.0 {
            let path = path(name);
            let is_there = sys::open_pin(&path).and_then(|fd| sys::map_info(fd.as_fd()));
            if is_there.is_ok_and(|info| info.id == map.info.id) {
                continue;
            }
            pin_instead(map, &path)?;
            pinned += 1;
        }
        Ok(pinned)
    }

    /// Pins the maps of these names in a folder.
    pub fn pin_named(&self, names: &[&'static str], dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let pin = |name: &&'static str| {
            let path = dir.join(name);
            sys::pin(self.fd(name)?, &path).with_context(|| format!("pinning {}", path.display()))?;
            Ok(path)
        };
        names.iter().map(pin).collect()
    }
}

/// Programs read the table and never write it.
fn is_only_read(name: &str) -> bool {
    PLANNED.contains(&name) || [names::IFACES, names::PORT_SECRET].contains(&name)
}

/// Pins a map in place of whatever is pinned there.
pub(super) fn pin_instead(map: &HeldMap, path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("unpinning {}", path.display()));
        }
        _ => {}
    }
    sys::pin(map.fd.as_fd(), path).with_context(|| format!("pinning {}", path.display()))
}

pub(super) fn made(shape: &MapShape) -> anyhow::Result<HeldMap> {
    let entries = shape.max_entries;
    let fd = sys::create_map(shape)
        .with_context(|| format!("making the map {} of {entries} entries", shape.name))?;
    let info = sys::map_info(fd.as_fd())?;
    Ok(HeldMap { fd, info })
}

/// Checks the map's shape: the kernel would run programs over a map of any shape.
fn opened(fd: OwnedFd, shape: &MapShape, path: &Path) -> anyhow::Result<HeldMap> {
    let info = sys::map_info(fd.as_fd()).with_context(|| format!("{} is not a map", path.display()))?;
    let found = (info.kind, info.key_size, info.value_size, info.flags);
    let wanted = (shape.kind as u32, shape.key_size, shape.value_size, shape.flags);
    if found != wanted {
        let in_words = |(kind, key, value, flags): (u32, u32, u32, u32)| {
            format!("kind {kind}, keys of {key} and values of {value} octets, flags {flags:#x}")
        };
        bail!(
            "the pinned map {} has {}; this version wants {}",
            path.display(),
            in_words(found),
            in_words(wanted)
        );
    }
    Ok(HeldMap { fd, info })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of these maps, whose descriptors are of no use.
    fn set(maps: &[(&'static str, u32)]) -> MapSet {
        let held = |(name, id): &(&'static str, u32)| {
            let fd = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
            let mut info = MapInfo::default();
            info.id = *id;
            (*name, Arc::new(HeldMap { fd, info }))
        };
        MapSet(maps.iter().map(held).collect())
    }

    #[test]
    fn a_dry_run_reads_live_tables_and_writes_none() {
        use svc_common::abi::names::*;
        let live = set(&[(FRONTENDS4, 1), (IFACES, 2), (FLOWS4, 3), (AFFINITY4, 4), (LEASE, 5)]);
        for (copy, expected) in [
            (&[(FRONTENDS4, 1), (IFACES, 2), (FLOWS4, 13), (AFFINITY4, 14), (LEASE, 15)][..], None),
            (&[(FRONTENDS4, 1), (FLOWS4, 3)], Some("would write the live table FLOWS4")),
            (&[(FRONTENDS4, 1), (FLOWS4, 13), (AFFINITY4, 4)], Some("would write the live table AFFINITY4")),
            (&[(FRONTENDS4, 1), (LEASE, 3)], Some("would write the live table LEASE")),
            (&[(FRONTENDS4, 9), (FLOWS4, 13)], Some("another table than the live FRONTENDS4")),
        ] {
            let error = set(copy).check_apart(&live).err().map(|error| error.to_string());
            let is_expected = match (&error, expected) {
                (Some(error), Some(expected)) => error.contains(expected),
                (error, expected) => error.is_none() && expected.is_none(),
            };
            assert!(is_expected, "{copy:?}: {error:?}");
        }
    }
}
