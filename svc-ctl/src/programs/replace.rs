//! Fill, then swap: the only code that replaces maps in use, and programs with them.
//!
//! 1. Prepare, while traffic goes on: new maps for those that change, pinned in the staging folder, and programs over
//!    the new set.
//! 2. Fill: the reconcile loop fills the maps.
//! 3. Swap: every hook gets its new program by an atomic update, and the staged pins replace the old ones. Until the
//!    swap succeeds, everything old stays as it was.
//!
//! A daemon killed in between leaves hooks on both sets of maps. The next start removes the staging folder and moves
//! every hook to the maps under the official names. Both sets have the same contents at that moment: the tables are
//! not written between filling and swapping, and a new flow is written to both flow tables.

use std::path::PathBuf;

use anyhow::Context as _;
use svc_common::abi::{Migration, names};

use super::hooks::Hooks;
use crate::dataplane::carried::{Carried, set_migration};
use crate::dataplane::copies::{add_counters, copy_entries};
use crate::dataplane::features::ProgramSettings;
use crate::dataplane::load::Loaded;
use crate::dataplane::map_set::MapSet;
use crate::dataplane::pins::Pins;
use crate::dataplane::shapes::TableSizes;

/// Input of a replacement.
pub struct Plan {
    pub pins: Pins,
    pub settings: ProgramSettings,
    /// The maps in force.
    pub maps: MapSet,
    /// Folder of the pins of the programs in force.
    pub programs_dir: PathBuf,
    pub sizes: TableSizes,
    /// Programs that are attached.
    pub programs: Vec<&'static str>,
}

/// New maps and programs over them, not attached yet.
pub struct Replacement {
    /// `None` after the swap.
    loaded: Option<Loaded>,
    maps: MapSet,
    replaced: Vec<&'static str>,
    carried: Carried,
    staged: StagedFiles,
}

/// Files of an unfinished replacement; removed on drop.
struct StagedFiles {
    pins: Pins,
    programs_dir: Option<PathBuf>,
    is_kept: bool,
}

impl Drop for StagedFiles {
    fn drop(&mut self) {
        let programs = self.programs_dir.take().filter(|_| !self.is_kept);
        let removed = programs.map_or(Ok(()), |dir| self.pins.remove_programs(&dir));
        if let Err(err) = removed.and_then(|()| self.pins.remove_staging()) {
            tracing::warn!("cannot remove the pins of a replacement: {err:#}");
        }
    }
}

impl Replacement {
    /// Makes maps and loads programs. The error names the map for which memory was missing.
    pub fn prepare(plan: Plan) -> anyhow::Result<Self> {
        let Plan { pins, settings, maps: old, programs_dir, sizes, programs } = plan;
        let mut staged = StagedFiles { pins: pins.clone(), programs_dir: None, is_kept: false };
        pins.remove_staging()?;
        let (mut maps, mut replaced) = old.resized(&sizes)?;
        let carried = Carried::between(&old, &maps)?;
        if !carried.is_empty() {
            maps.renew(names::MIGRATION)?;
            replaced.push(names::MIGRATION);
        }
        let staging = pins.staging();
        std::fs::create_dir_all(&staging).with_context(|| format!("making {}", staging.display()))?;
        maps.pin_named(&replaced, &staging)?;
        let mut loaded = Loaded::over(&pins, settings, maps.clone(), carried.clone())?;
        staged.programs_dir = Some(loaded.dir().clone()).filter(|dir| *dir != programs_dir);
        loaded.require(&programs)?;
        Ok(Self { loaded: Some(loaded), maps, replaced, carried, staged })
    }

    pub const fn maps(&self) -> &MapSet {
        &self.maps
    }

    /// Moves every hook to the new programs, and the pins to the new maps. Returns the flow tables whose records must
    /// still be copied. After an error the old programs and maps are in force.
    pub fn swap(mut self, hooks: &mut Hooks) -> anyhow::Result<Carried> {
        let loaded = self.loaded.take().context("swapped already")?;
        let (old, pins) = (hooks.maps().clone(), hooks.pins.clone());
        copy_entries(&old, &self.maps)?;
        if !self.carried.is_empty() {
            set_migration(&self.maps, Migration::WRITE_BOTH)?;
            self.carried.pin(&pins.records())?;
        }
        if let Err(err) = hooks.swap(loaded) {
            self.carried.unpin(&pins.records());
            return Err(err);
        }
        // The new maps are in force. If a pin cannot be moved, restoring the pins makes it again.
        self.staged.is_kept = true;
        if let Err(err) = self.finish(&old, &pins) {
            tracing::error!("cannot move the pins of new maps: {err:#}");
        }
        hooks.maps_replaced()?;
        Ok(std::mem::take(&mut self.carried))
    }

    fn finish(&self, old: &MapSet, pins: &Pins) -> anyhow::Result<()> {
        add_counters(old, &self.maps)?;
        for name in &self.replaced {
            let (from, to) = (pins.staging().join(name), pins.map(name));
            std::fs::rename(&from, &to)
                .with_context(|| format!("moving {} to {}", from.display(), to.display()))?;
        }
        if !self.carried.is_empty() {
            set_migration(&self.maps, Migration::READ_OLD)?;
        }
        Ok(())
    }
}
