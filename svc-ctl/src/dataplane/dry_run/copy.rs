//! The copy of a serving program, which the first answer loads and later ones open.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};
use svc_common::abi::Config;

use crate::dataplane::load::{Loaded, octets};
use crate::dataplane::map_set::MapSet;
use crate::dataplane::object::OBJECT;
use crate::dataplane::pins::Pins;
use crate::dataplane::sys;

/// A loaded program and the tables that it uses. Only one process uses them at a time.
pub struct ProgramCopy {
    pub program: OwnedFd,
    pub tables: MapSet,
    _lock: Flock<File>,
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
        pins.remove_other_dry_programs(&dir)?;
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let file = File::open(&dir).with_context(|| format!("opening {}", dir.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .with_context(|| format!("locking {}", dir.display()))?;
        if let Ok(program) = sys::open_pin(&dir.join(name)) {
            let used = sys::program_info(program.as_fd()).context("the pinned copy is no program")?.maps;
            let tables = live.with_maps(&used)?;
            return Ok(Self { program, tables, _lock: lock });
        }
        let tables = live.without_written()?;
        let mut loaded = Loaded::apart(config, tables.clone(), dir);
        let program = loaded.program(name).context("loading a copy of the serving program")?;
        Ok(Self { program, tables, _lock: lock })
    }
}
