//! The copy of a serving program, which the first answer loads and later ones open.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use svc_common::abi::Config;

use crate::dataplane::load::{Loaded, octets};
use crate::dataplane::map_set::MapSet;
use crate::dataplane::object::OBJECT;
use crate::dataplane::pins::{Lock, Pins};
use crate::dataplane::sys;

/// Time to wait for another `svc-ctl why`. The verifier needs half a second for a program.
const PATIENCE: Duration = Duration::from_secs(10);

/// A loaded program and the tables that it uses. Only one process uses them at a time.
pub struct ProgramCopy {
    pub program: OwnedFd,
    /// The kernel's hash of its instructions.
    pub tag: [u8; 8],
    pub tables: MapSet,
    _lock: Lock,
}

impl ProgramCopy {
    /// Opens the copy over these live tables, or loads it. Copies over other tables or with another configuration are removed.
    pub fn of(pins: &Pins, name: &str, config: Config, live: &MapSet) -> anyhow::Result<Self> {
        let mut hash = Sha256::new();
        hash.update(OBJECT);
        hash.update(octets(&config));
        live.ids().for_each(|(_, id)| hash.update(id.to_ne_bytes()));
        let hash: String = hash.finalize().iter().take(8).map(|octet| format!("{octet:02x}")).collect();
        let dir = pins.dry_programs().join(hash);
        let lock = pins.lock_dry_programs(&dir, PATIENCE)?;
        let (program, tables) = match pinned(&dir.join(name), name, live) {
            Some(found) => found,
            None => {
                // `Loaded` would open it.
                let _ = std::fs::remove_file(dir.join(name));
                let tables = live.of_dry_program(&[])?;
                let mut loaded = Loaded::apart(config, tables.clone(), dir);
                (loaded.program(name).context("loading a copy of the serving program")?, tables)
            }
        };
        let tag = sys::program_info(program.as_fd()).context("asking for the copy's hash")?.tag;
        Ok(Self { program, tag, tables, _lock: lock })
    }
}

/// The pinned copy and its tables. `None`: nothing is pinned there, or another program, for example one that writes live tables.
fn pinned(path: &Path, name: &str, live: &MapSet) -> Option<(OwnedFd, MapSet)> {
    let program = sys::open_pin(path).ok()?;
    let info = sys::program_info(program.as_fd()).ok().filter(|info| info.name == name)?;
    let tables = live.of_dry_program(&info.maps).ok()?;
    tables.check_apart(live).ok()?;
    Some((program, tables))
}
