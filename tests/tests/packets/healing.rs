//! What others did to programs, links and pins, and what a daemon left that was killed.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::Trial;
use svc_common::abi::{limits, names};
use svc_ctl::config::XdpPolicy;
use svc_ctl::dataplane::attach::{Place, TCX_INGRESS};
use svc_ctl::dataplane::carried::Carried;
use svc_ctl::dataplane::load::{Loaded, Settings};
use svc_ctl::dataplane::map_set::MapSet;
use svc_ctl::dataplane::pins::Pins;
use svc_ctl::dataplane::probe::tcx_programs;
use svc_ctl::dataplane::shapes::TableSizes;
use svc_ctl::dataplane::sys;
use svc_ctl::model::complaint::Origin;
use svc_ctl::plan::capacity::Capacity;
use svc_tests::wait;

use crate::hooked::{ATTACH_LIMIT, FLOWS, Stage};
use crate::tables::{pins, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("links that lost their pins are pinned anew, and were never detached", unpinned),
        trial("a link that somebody detached is made anew", detached),
        trial("hooks that a killed daemon left on two sets of maps come to the pinned ones", half_swapped),
        trial("hooks of another version keep their programs until the tables are filled", upgraded),
        trial("at ingress ours is the first of the tcx programs; another one before it is named", ordered),
        trial("a hook that is taken is tried again, without any news of interfaces", taken),
    ]
}

/// Programs over these maps, which are nobody's else.
fn loaded(pins: &Pins, maps: MapSet) -> Result<Loaded> {
    let settings =
        Settings { snat_ports: (1, 1), pod_sockets: false, pods_by_source: false, service_cidrs: false };
    Loaded::over(pins, settings, maps, Carried::default())
}

/// A pinned link with this beginning, and its label.
fn link(pins: &Pins, start: &str) -> Result<(String, OwnedFd)> {
    let name = pins.link_names()?.into_iter().find(|name| name.starts_with(start)).context("no link")?;
    let link = sys::open_pin(&pins.link(&name))?;
    Ok((name, link))
}

fn unpinned() -> Result<()> {
    let stage = Stage::start("unpinned", FLOWS)?;
    let pins = &stage.started.pins;
    let id =
        |name: &String| Ok::<_, anyhow::Error>(sys::link_info(sys::open_pin(&pins.link(name))?.as_fd())?.id);
    let names = pins.link_names()?;
    let before = names.iter().map(id).collect::<Result<Vec<_>>>()?;
    for name in &names {
        fs::remove_file(pins.link(name))?;
    }
    fs::remove_file(pins.map("SELECTION"))?;
    wait::until_true("everything is pinned", Duration::from_secs(10), || {
        Ok(pins.link_names()? == names && pins.map("SELECTION").exists())
    })?;
    ensure!(names.iter().map(id).collect::<Result<Vec<_>>>()? == before, "other links than before");
    stage.stop()
}

fn detached() -> Result<()> {
    let stage = Stage::start("detached", FLOWS)?;
    let pins = &stage.started.pins;
    let (name, ours) = link(pins, "tcx-ingress")?;
    sys::link_detach(ours.as_fd())?;
    ensure!(sys::link_info(ours.as_fd())?.target == 0, "it is still attached");
    wait::until_true("it is attached", Duration::from_secs(10), || {
        let pinned = sys::open_pin(&pins.link(&name)).and_then(|link| sys::link_info(link.as_fd()));
        Ok(pinned.is_ok_and(|info| info.target != 0))
    })?;
    ensure!(stage.hooks.borrow().reattached > 0, "nothing was counted");
    stage.stop()
}

/// The flag of a link that wants to be the first.
const BEFORE: u32 = 1 << 3;

fn ordered() -> Result<()> {
    let stage = Stage::start("ordered", FLOWS)?;
    let (name, ours) = link(&stage.started.pins, "tcx-ingress")?;
    let others = pins("ordered-others")?;
    let maps = MapSet::open_or_make(&others.maps(), &TableSizes::default())?;
    let mut theirs = loaded(&others, maps)?;
    let program = theirs.program("uplink_ingress")?;
    let last = sys::link_create(program.as_fd(), stage.index, TCX_INGRESS, 0)?;
    // Ours goes and comes back, and is the first again.
    sys::link_detach(ours.as_fd())?;
    let pins = &stage.started.pins;
    wait::until_true("ours is the first", Duration::from_secs(20), || {
        let Ok(link) = sys::open_pin(&pins.link(&name)) else { return Ok(false) };
        let own = sys::link_info(link.as_fd())?.prog_id;
        Ok(tcx_programs("ordered0", Place::Ingress)
            .is_some_and(|all| all.first().is_some_and(|(id, _)| *id == own)))
    })?;
    drop(last);
    let first = sys::link_create(program.as_fd(), stage.index, TCX_INGRESS, BEFORE)?;
    let is_named = || {
        let complaints = stage.ledger.get(&Origin::Programs);
        complaints.iter().any(|c| c.object == "interface ordered0" && c.reason.contains("before svc"))
    };
    wait::until_true("the other is named", Duration::from_secs(20), || Ok(is_named()))?;
    drop(first);
    wait::until_true("nothing is in the way", Duration::from_secs(20), || Ok(!is_named()))?;
    stage.stop()
}

/// A replacement was killed between the first and the last link, and before any pin was moved.
fn half_swapped() -> Result<()> {
    let stage = Stage::start("half", FLOWS)?;
    let (pins, before) = (stage.started.pins.clone(), stage.programs()?);
    stage.stop()?;
    let maps = MapSet::open(&pins.maps())?;
    let old = Capacity::default();
    let sizes = TableSizes { capacity: Capacity { selection: old.selection * 2, ..old }, flows: FLOWS * 2 };
    let (new, replaced) = maps.resized(&sizes)?;
    fs::create_dir_all(pins.staging())?;
    new.pin_named(&replaced, &pins.staging())?;
    Carried::between(&maps, &new)?.pin(&pins.maps())?;
    let (_, ingress) = link(&pins, "tcx-ingress")?;
    sys::link_update(ingress.as_fd(), loaded(&pins, new)?.program("uplink_ingress")?.as_fd())?;
    let stage = Stage::start("half", FLOWS)?;
    ensure!(stage.programs()? == before, "other programs hang than before the replacement");
    ensure!(stage.started.first_swap.is_none(), "the hooks are taken for another version's");
    ensure!(!pins.staging().exists() && !pins.map(names::CARRIED4).exists(), "something is staged");
    ensure!(fs::read_dir(pins.programs())?.count() == 1, "programs of two builds are pinned");
    ensure!(stage.pinned("SELECTION")?.max_entries == old.selection, "another table is pinned");
    stage.stop()
}

fn upgraded() -> Result<()> {
    let stage = Stage::start("upgraded", FLOWS)?;
    let pins_of_ours = stage.started.pins.clone();
    let ours = stage.programs()?;
    stage.stop()?;
    let others = pins("upgraded-others")?;
    let maps = MapSet::open_or_make(&others.maps(), &TableSizes::default())?;
    let mut theirs = loaded(&others, maps)?;
    for (label, program) in [("tcx-ingress", "uplink_ingress"), ("tcx-egress", "uplink_egress")] {
        let (_, link) = link(&pins_of_ours, label)?;
        sys::link_update(link.as_fd(), theirs.program(program)?.as_fd())?;
    }
    let mut stage = Stage::start("upgraded", FLOWS)?;
    let before = stage.programs()?;
    ensure!(before != ours, "the hooks were moved before the tables are filled");
    // Tables may have to grow before they can be filled.
    let more = Capacity { selection: limits::SELECTION * 2, ..Capacity::default() };
    stage.started.growth.ask.send(more)?;
    let staged = stage.started.growth.staged.blocking_recv().context("no answer")?;
    (staged.map_err(|text| anyhow!(text))?.swap)()?;
    ensure!(stage.programs()?.iter().any(|id| before.contains(id)), "the hooks were moved by growth");
    let swap = stage.started.first_swap.take().context("nothing to swap")?;
    swap()?;
    let after = stage.programs()?;
    ensure!(after.iter().all(|id| !before.contains(id) || ours.contains(id)), "the hooks were not moved");
    ensure!(stage.maps_in_use()?.contains(&stage.pinned("SELECTION")?.id), "the hooks use other maps");
    stage.stop()
}

fn taken() -> Result<()> {
    // The interface is made by a stage that is over.
    Stage::start("taken", FLOWS)?.stop()?;
    let others = pins("taken-others")?;
    let maps = MapSet::open_or_make(&others.maps(), &TableSizes::default())?;
    let program = loaded(&others, maps)?.program("uplink_xdp")?;
    let index = nix::net::if_::if_nametoindex("taken0")?;
    // BPF_XDP in the driver's mode.
    let holder = sys::link_create(program.as_fd(), index, 37, 1 << 2)?;
    let stage = Stage::begin("taken", FLOWS, XdpPolicy::Native)?;
    wait::until_true("the hook is refused", ATTACH_LIMIT, || {
        Ok(stage.hooks.borrow().interfaces.iter().any(|i| i.errors.len() == 1))
    })?;
    drop(holder);
    stage.until_hooks(3)?;
    stage.stop()
}
