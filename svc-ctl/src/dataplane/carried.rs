//! Flow tables that are being replaced: programs copy records from them that their new tables do not have yet.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use svc_common::abi::{FlowKey, FlowRecord, MapAddr, Migration, names};
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::datapath::state::{STAMP_SHIFT, is_expired};

use super::clock::coarse_ns;
use super::map_set::{HeldMap, MapSet};
use super::maps::entries;
use super::pins::Pins;
use super::sys::{self, EntryMap};

/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;

/// The old flow tables, by the programs' names for them.
#[derive(Clone, Debug, Default)]
pub struct Carried(Vec<(&'static str, Arc<HeldMap>)>);

const TABLES: [(&str, &str); 2] = [(names::CARRIED4, names::FLOWS4), (names::CARRIED6, names::FLOWS6)];

impl Carried {
    /// The flow tables of `old` that `new` does not share.
    pub fn between(old: &MapSet, new: &MapSet) -> anyhow::Result<Self> {
        let mut carried = Vec::new();
        for (name, table) in TABLES {
            let before = old.get(table)?;
            if before.info.id != new.get(table)?.info.id {
                carried.push((name, Arc::clone(before)));
            }
        }
        Ok(Self(carried))
    }

    /// Old flow tables that an earlier daemon did not copy completely. A pin of the table in force means that nothing
    /// is being replaced; it is removed.
    pub fn pinned(pins: &Pins, maps: &MapSet) -> anyhow::Result<Self> {
        let mut carried = Vec::new();
        for (name, table) in TABLES {
            let path = pins.map(name);
            let Ok(fd) = sys::open_pin(&path) else { continue };
            let (info, current) = (sys::map_info(fd.as_fd())?, maps.get(table)?.info);
            let is_flow_table = (info.key_size, info.value_size) == (current.key_size, current.value_size);
            if info.id == current.id || !is_flow_table {
                std::fs::remove_file(&path).with_context(|| format!("unpinning {}", path.display()))?;
            } else {
                carried.push((name, Arc::new(HeldMap { fd, info })));
            }
        }
        Ok(Self(carried))
    }

    /// The old flow tables from which the programs over these maps still read.
    pub fn in_use(pins: &Pins, maps: &MapSet) -> anyhow::Result<Self> {
        let mut migration = [0; size_of::<Migration>()];
        sys::look_up_entry(maps.fd(names::MIGRATION)?, &0_u32.to_ne_bytes(), &mut migration)
            .context("reading MIGRATION")?;
        if Migration(u32::from_ne_bytes(migration)) == Migration::NONE {
            return Ok(Self::default());
        }
        let mut carried = Vec::new();
        for (name, table) in TABLES {
            let path = pins.map(name);
            let fd = match sys::open_pin(&path) {
                Ok(fd) => fd,
                // The daemon has copied all of it.
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => return Err(err).with_context(|| format!("opening {}", path.display())),
            };
            let info = sys::map_info(fd.as_fd())?;
            if info.id != maps.get(table)?.info.id {
                carried.push((name, Arc::new(HeldMap { fd, info })));
            }
        }
        Ok(Self(carried))
    }

    /// The set with these flow tables in place of its own.
    pub fn instead(&self, maps: &MapSet) -> MapSet {
        let table = |name| TABLES.iter().find(|(carried, _)| *carried == name).map(|(_, table)| *table);
        let old = self.0.iter().filter_map(|(name, map)| Some((table(*name)?, Arc::clone(map))));
        maps.with(old)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn ids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.0.iter().map(|(name, map)| (*name, map.info.id))
    }

    /// Pins the old tables in a folder under the programs' names.
    pub fn pin(&self, dir: &Path) -> anyhow::Result<()> {
        for (name, map) in &self.0 {
            let path = dir.join(name);
            let _ = std::fs::remove_file(&path);
            sys::pin(map.fd.as_fd(), &path).with_context(|| format!("pinning {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes the pins of [`Self::pin`].
    pub fn unpin(&self, dir: &Path) {
        self.0.iter().for_each(|(name, _)| drop(std::fs::remove_file(dir.join(name))));
    }

    /// Copies every live record that the new tables do not have; returns the number.
    pub fn copy_into(&self, new: &MapSet) -> anyhow::Result<u64> {
        let mut copied = 0;
        for (name, map) in &self.0 {
            copied += match *name {
                names::CARRIED4 => copy_family::<AddrV4>(map.fd.as_fd(), new, names::FLOWS4)?,
                _ => copy_family::<AddrV6>(map.fd.as_fd(), new, names::FLOWS6)?,
            };
        }
        Ok(copied)
    }
}

fn copy_family<A: MapAddr>(old: BorrowedFd<'_>, new: &MapSet, name: &str) -> anyhow::Result<u64> {
    let now = (coarse_ns() >> STAMP_SHIFT) as u32;
    let old: EntryMap<FlowKey<A>, FlowRecord<A>> =
        EntryMap::new(old.try_clone_to_owned()?)?.context("the old flow table has another shape")?;
    let new: EntryMap<FlowKey<A>, FlowRecord<A>> = entries(new, name)?;
    let mut copied = 0;
    old.each(|key, record| {
        if !is_expired(key.proto, record.state, now, record.stamp) {
            // A record that the programs made or copied in the meantime is newer.
            copied += u64::from(new.insert(&key, &record, NOEXIST).is_ok());
        }
    })
    .with_context(|| format!("copying the old table {name}"))?;
    Ok(copied)
}

/// Sets how the programs over these maps use the tables that are being replaced.
pub fn set_migration(maps: &MapSet, migration: Migration) -> anyhow::Result<()> {
    let map: EntryMap<u32, Migration> = entries(maps, names::MIGRATION)?;
    map.insert(&0, &migration, 0).context("writing MIGRATION")
}
