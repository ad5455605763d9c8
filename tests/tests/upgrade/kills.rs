//! SIGKILL at each phase of an upgrade, which then goes on or is taken back.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use svc_ctl::dataplane::sys;
use svc_tests::bpffs::BpfFs;
use svc_tests::daemon::Daemon;
use svc_tests::wait;
use svc_tests::world::has_hooks;

use crate::streams::Streams;
use crate::testbed::{Testbed, Version, Xdp, scenario};
use crate::turns::has_programs;

const PHASE_LIMIT: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    vec![scenario(
        "a daemon that is killed at any phase of an upgrade disturbs no connection",
        Xdp::Off,
        killed,
    )]
}

/// Progress of the upgrade when the daemon is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    TablesAreMade,
    ProgramsAreLoaded,
    /// Every second hook is moved. The daemon moves all within a millisecond, so the test does it in its place.
    HalfAreMoved,
    HooksAreMoved,
}

impl Phase {
    const ALL: [Self; 4] =
        [Self::TablesAreMade, Self::ProgramsAreLoaded, Self::HalfAreMoved, Self::HooksAreMoved];
}

/// The program behind each pinned link.
fn hooked(daemon: &Daemon) -> Vec<u32> {
    let program = |path| Some(sys::link_info(sys::open_pin(path).ok()?.as_fd()).ok()?.prog_id);
    BpfFs::pins(&daemon.pins().join("links")).iter().filter_map(|path| program(path)).collect()
}

/// Number of hooks that have another program than before.
fn moved(daemon: &Daemon, before: &[u32]) -> usize {
    hooked(daemon).iter().filter(|program| !before.contains(program)).count()
}

fn killed(testbed: &mut Testbed) -> Result<()> {
    let streams = Streams::start(testbed)?;
    let before = streams.gaps()?;
    let mut version = Version::This;
    for phase in Phase::ALL {
        for goes_on in [false, true] {
            let to = version.other();
            kill_at(testbed, to, phase)?;
            streams.go_on(&format!("killed: {phase:?}"))?;
            version = if goes_on { to } else { version };
            testbed.start(1, version)?;
            testbed.finish(1, version)?;
            streams.go_on(&format!("after {phase:?}: {version:?}"))?;
        }
    }
    streams.end("killed at each phase", &before)
}

/// Begins an upgrade and kills the daemon as soon as that phase has come.
fn kill_at(testbed: &mut Testbed, to: Version, phase: Phase) -> Result<()> {
    let before = hooked(testbed.world.daemon(1)?);
    match phase {
        // Its tables are a copy of those in force until the lists come.
        Phase::HalfAreMoved => testbed.start_without_lists(1, to)?,
        _ => testbed.start(1, to)?,
    }
    let daemon = testbed.world.daemon(1)?;
    let tables = to.tables(daemon);
    let until = |what: &str, look: &dyn Fn() -> bool| {
        wait::until_true(what, PHASE_LIMIT, || Ok(look())).with_context(|| daemon.log())
    };
    match phase {
        Phase::TablesAreMade => until("the tables are made", &|| tables.join("LAYOUT").exists())?,
        Phase::ProgramsAreLoaded => until("programs are loaded", &|| has_programs(&tables))?,
        Phase::HalfAreMoved => {
            until("the hooks are found", &|| {
                daemon.status().is_ok_and(|status| has_hooks(&status, "vethpod"))
            })?;
            move_half(daemon, &tables)?;
        }
        Phase::HooksAreMoved => until("every hook is moved", &|| !to.other().tables(daemon).exists())?,
    }
    daemon.kill()?;
    println!(
        "killed at {phase:?} on the way to {to:?}: {} of {} hooks moved",
        moved(daemon, &before),
        before.len()
    );
    Ok(())
}

/// Puts the pinned programs over these tables behind every second hook.
fn move_half(daemon: &Daemon, tables: &Path) -> Result<()> {
    let programs = BpfFs::pins(&tables.join("programs"));
    for path in BpfFs::pins(&daemon.pins().join("links")).iter().step_by(2) {
        let link = sys::open_pin(path)?;
        let current = sys::program_by_id(sys::link_info(link.as_fd())?.prog_id)?;
        let name = sys::program_info(current.as_fd())?.name;
        let program = programs.iter().find(|pin| pin.ends_with(&name));
        let program = program.with_context(|| format!("{name} is not pinned below {}", tables.display()))?;
        sys::link_update(link.as_fd(), sys::open_pin(program)?.as_fd())?;
    }
    Ok(())
}
