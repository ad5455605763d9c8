//! SIGKILL at each phase of an upgrade, which then goes on or is taken back.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;
use svc_ctl::dataplane::sys;
use svc_tests::bpffs::BpfFs;
use svc_tests::daemon::Daemon;
use svc_tests::wait;

use crate::streams::Streams;
use crate::testbed::{Testbed, Version, scenario};
use crate::turns::has_programs;

const PHASE_LIMIT: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    vec![scenario("a daemon that is killed at any phase of an upgrade disturbs no connection", killed)]
}

/// How far the upgrade is when the daemon is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    TablesAreMade,
    ProgramsAreLoaded,
    /// The first hook whose program uses tables. Programs that use records alone are replaced at once.
    FirstHookIsMoved,
    HooksAreMoved,
}

impl Phase {
    const ALL: [Self; 4] =
        [Self::TablesAreMade, Self::ProgramsAreLoaded, Self::FirstHookIsMoved, Self::HooksAreMoved];
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
    let before = streams.slowest()?;
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
    testbed.start(1, to)?;
    let daemon = testbed.world.daemon(1)?;
    let tables = to.tables(daemon);
    let until = |what: &str, look: &dyn Fn() -> bool| {
        wait::until_true(what, PHASE_LIMIT, || Ok(look())).with_context(|| daemon.log())
    };
    match phase {
        Phase::TablesAreMade => until("the tables are made", &|| tables.join("LAYOUT").exists())?,
        Phase::ProgramsAreLoaded => until("programs are loaded", &|| has_programs(&tables))?,
        Phase::FirstHookIsMoved => {
            until("programs are loaded", &|| has_programs(&tables))?;
            let (moved_before, deadline) = (moved(daemon, &before), Instant::now() + PHASE_LIMIT);
            // All hooks are moved within less time than a pause between two looks.
            while moved(daemon, &before) == moved_before && Instant::now() < deadline {}
        }
        Phase::HooksAreMoved => {
            until("every hook is moved", &|| !to.other().tables(daemon).exists())?;
        }
    }
    daemon.kill()?;
    println!(
        "killed at {phase:?} on the way to {to:?}: {} of {} hooks moved",
        moved(daemon, &before),
        before.len()
    );
    Ok(())
}
