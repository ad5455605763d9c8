//! A complete set of maps for programs, held by descriptors.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use svc_common::abi::names;

use super::shapes::{TableSizes, map_shapes};
use super::sys::{self, MapInfo, MapShape};
use crate::plan::capacity::Capacity;

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
    /// Opens the maps pinned in a folder, whatever their size, and makes and pins missing ones. A pinned map of
    /// another shape is an error.
    pub fn open_or_make(dir: &Path, sizes: &TableSizes) -> anyhow::Result<Self> {
        let mut set = BTreeMap::new();
        for shape in map_shapes(sizes) {
            let path = dir.join(shape.name);
            let map = match sys::open_pin(&path) {
                Ok(fd) => opened(fd, &shape, &path)?,
                Err(err) if err.kind() == io::ErrorKind::NotFound => {
                    let map = made(&shape)?;
                    sys::pin(map.fd.as_fd(), &path).with_context(|| format!("pinning {}", path.display()))?;
                    map
                }
                Err(err) => return Err(err).with_context(|| format!("opening {}", path.display())),
            };
            set.insert(shape.name, Arc::new(map));
        }
        Ok(Self(set))
    }

    /// Opens the maps pinned in a folder; a missing one is an error.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let mut set = BTreeMap::new();
        for shape in map_shapes(&TableSizes::default()) {
            let path = dir.join(shape.name);
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

    /// The set has a map with that id.
    pub fn has(&self, id: u32) -> bool {
        self.0.values().any(|map| map.info.id == id)
    }

    /// Number of entries of the maps.
    pub fn sizes(&self) -> TableSizes {
        let of = |name| self.0.get(name).map_or(0, |map| map.info.max_entries);
        let both = |v4, v6| of(v4).min(of(v6));
        TableSizes {
            capacity: Capacity {
                frontends: both(names::FRONTENDS4, names::FRONTENDS6),
                backends: both(names::BACKENDS4, names::BACKENDS6),
                selection: of(names::SELECTION),
                maglev: of(names::MAGLEV),
                services: of(names::SERVICES),
                addresses: both(names::ADDRESSES4, names::ADDRESSES6),
                prefixes: both(names::PREFIXES4, names::PREFIXES6),
            },
            flows: both(names::FLOWS4, names::FLOWS6),
        }
    }

    /// Pins the maps that are not pinned in a folder, or whose pin is another map; returns the number.
    pub fn pin(&self, dir: &Path) -> anyhow::Result<u64> {
        let mut pinned = 0;
        for (name, map) in &self.0 {
            let path = dir.join(name);
            let is_there = sys::open_pin(&path).and_then(|fd| sys::map_info(fd.as_fd()));
            match is_there {
                Ok(info) if info.id == map.info.id => continue,
                Ok(_) => {
                    std::fs::remove_file(&path).with_context(|| format!("unpinning {}", path.display()))?
                }
                Err(_) => {}
            }
            sys::pin(map.fd.as_fd(), &path).with_context(|| format!("pinning {}", path.display()))?;
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

fn made(shape: &MapShape) -> anyhow::Result<HeldMap> {
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
            "the pinned map {} has {}; this version wants {}: it was made by another build; remove it with \
             `svc-ctl cleanup` (established connections will be lost)",
            path.display(),
            in_words(found),
            in_words(wanted)
        );
    }
    Ok(HeldMap { fd, info })
}
