//! Repair of programs, links and pins that others changed, and of the leftovers of a killed daemon.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::Trial;
use svc_common::abi::{PodSockets, limits, names};
use svc_ctl::config::XdpPolicy;
use svc_ctl::dataplane::carried::Carried;
use svc_ctl::dataplane::hooks::{TCX_EGRESS, TCX_INGRESS, TcHook};
use svc_ctl::dataplane::links::{HookedTables, hooked_tables};
use svc_ctl::dataplane::load::{Loaded, ProgramSettings};
use svc_ctl::dataplane::map_set::MapSet;
use svc_ctl::dataplane::pins::Pins;
use svc_ctl::dataplane::probe::tcx_programs;
use svc_ctl::dataplane::shapes::TableSizes;
use svc_ctl::dataplane::sys::{self, MapKind, MapShape};
use svc_ctl::model::complaint::Origin;
use svc_ctl::plan::capacity::Capacity;
use svc_tests::wait;

use crate::hooked::{ATTACH_LIMIT, FLOWS, Testbed};
use crate::tables::{pins, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("links that lost their pins are pinned anew, and were never detached", unpinned),
        trial("a detached link is made again", detached),
        trial("hooks that a killed daemon left on two sets of maps come to the pinned ones", half_swapped),
        trial(
            "hooks whose tables lost a pin keep their programs until copies of the tables are filled",
            torn,
        ),
        trial(
            "a pinned map of another shape is replaced, and hooks keep their programs until then",
            misshapen,
        ),
        trial("hooks of another version keep their programs until the tables are filled", upgraded),
        trial("at ingress ours is the first of the tcx programs; another one before it is named", || {
            ordered(&Order {
                test: "first",
                hook: TcHook::Ingress,
                attach: TCX_INGRESS,
                at_end: BEFORE,
                program: "uplink_ingress",
                complaint: "before svc",
            })
        }),
        trial("at egress ours is the last of the tcx programs; another one after it is named", || {
            ordered(&Order {
                test: "last",
                hook: TcHook::Egress,
                attach: TCX_EGRESS,
                at_end: AFTER,
                program: "uplink_egress",
                complaint: "after svc",
            })
        }),
        trial("a hook that is taken is tried again, without an event of an interface", taken),
    ]
}

/// Programs over maps that nothing else uses.
fn loaded(pins: &Pins, maps: MapSet) -> Result<Loaded> {
    let settings = ProgramSettings {
        snat_ports: (1, 1),
        pod_sockets: PodSockets::WITHOUT_DAEMON,
        pods_by_source: false,
        service_cidrs: false,
        drops_unknown_ports: false,
        pools: false,
        new_flow_limit: 0,
    };
    Loaded::over(pins, settings, maps, Carried::default())
}

/// A pinned link with this prefix, and its label.
fn link(pins: &Pins, start: &str) -> Result<(String, OwnedFd)> {
    let name = pins.link_names()?.into_iter().find(|name| name.starts_with(start)).context("no link")?;
    let link = sys::open_pin(&pins.link(&name))?;
    Ok((name, link))
}

fn unpinned() -> Result<()> {
    let testbed = Testbed::start("unpinned", FLOWS)?;
    let pins = &testbed.started.pins;
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
    testbed.stop()
}

fn detached() -> Result<()> {
    let testbed = Testbed::start("detached", FLOWS)?;
    let pins = &testbed.started.pins;
    let (name, ours) = link(pins, "tcx-ingress")?;
    sys::link_detach(ours.as_fd())?;
    ensure!(sys::link_info(ours.as_fd())?.target == 0, "it is still attached");
    wait::until_true("it is attached", Duration::from_secs(10), || {
        let pinned = sys::open_pin(&pins.link(&name)).and_then(|link| sys::link_info(link.as_fd()));
        Ok(pinned.is_ok_and(|info| info.target != 0))
    })?;
    ensure!(testbed.hooks.borrow().reattached > 0, "nothing was counted");
    testbed.stop()
}

/// The flags of a link that must be first, and of one that must be last.
const BEFORE: u32 = 1 << 3;
const AFTER: u32 = 1 << 4;

/// A hook and the place of our program among those of others.
struct Order {
    test: &'static str,
    hook: TcHook,
    attach: u32,
    /// The flag of a link that takes our place.
    at_end: u32,
    program: &'static str,
    /// Words of the complaint about such a link.
    complaint: &'static str,
}

fn ordered(order: &Order) -> Result<()> {
    let testbed = Testbed::start(order.test, FLOWS)?;
    let interface = format!("{}0", order.test);
    let (name, ours) = link(&testbed.started.pins, &format!("tcx-{}", order.hook.label()))?;
    let others = pins(&format!("{}-others", order.test))?;
    let maps = MapSet::open_or_make(&others, &TableSizes::default())?;
    let mut theirs = loaded(&others, maps)?;
    let program = theirs.program(order.program)?;
    let inside = sys::link_create(program.as_fd(), testbed.index, order.attach, 0)?;
    // Ours is detached and attached again, and has its place again.
    sys::link_detach(ours.as_fd())?;
    let pins = &testbed.started.pins;
    wait::until_true("ours has its place", Duration::from_secs(20), || {
        let Ok(link) = sys::open_pin(&pins.link(&name)) else { return Ok(false) };
        let own = sys::link_info(link.as_fd())?.prog_id;
        let all = tcx_programs(&interface, order.hook).unwrap_or_default();
        let end = if order.at_end == BEFORE { all.first() } else { all.last() };
        Ok(all.len() == 2 && end.is_some_and(|(id, _)| *id == own))
    })?;
    drop(inside);
    let outside = sys::link_create(program.as_fd(), testbed.index, order.attach, order.at_end)?;
    let is_named = || {
        let complaints = testbed.ledger.get(&Origin::Programs);
        let object = format!("interface {interface}");
        complaints.iter().any(|c| c.object == object && c.reason.contains(order.complaint))
    };
    wait::until_true("the other is named", Duration::from_secs(20), || Ok(is_named()))?;
    drop(outside);
    wait::until_true("nothing is in the way", Duration::from_secs(20), || Ok(!is_named()))?;
    testbed.stop()
}

/// A replacement was killed between the first and the last link, and before any pin was moved.
fn half_swapped() -> Result<()> {
    let testbed = Testbed::start("half", FLOWS)?;
    let (pins, before) = (testbed.started.pins.clone(), testbed.programs()?);
    testbed.stop()?;
    let maps = MapSet::open(&pins)?;
    let old = Capacity::default();
    let sizes = TableSizes { capacity: Capacity { selection: old.selection * 2, ..old }, flows: FLOWS * 2 };
    let (new, replaced) = maps.resized(&sizes)?;
    fs::create_dir_all(pins.staging())?;
    new.pin_named(&replaced, &pins.staging())?;
    Carried::between(&maps, &new)?.pin(&pins.records())?;
    let (_, ingress) = link(&pins, "tcx-ingress")?;
    sys::link_update(ingress.as_fd(), loaded(&pins, new)?.program("uplink_ingress")?.as_fd())?;
    let mut testbed = Testbed::start("half", FLOWS)?;
    ensure!(
        testbed.programs()?.iter().any(|id| before.contains(id)),
        "hooks moved before the tables are filled"
    );
    filled(&mut testbed)?;
    ensure!(!pins.staging().exists() && !pins.map(names::CARRIED4).exists(), "something is staged");
    ensure!(fs::read_dir(pins.programs())?.count() == 1, "programs of two builds are pinned");
    ensure!(testbed.pinned("SELECTION")?.max_entries == old.selection, "another table is pinned");
    testbed.stop()
}

/// Moves the hooks, as the loop does once the tables are filled: afterwards no hook uses another table than the pinned one.
fn filled(testbed: &mut Testbed) -> Result<()> {
    let mut swap = testbed.started.first_swap.take().context("nothing to swap")?;
    swap()?;
    let pins = &testbed.started.pins;
    let hooked = hooked_tables(pins, &MapSet::open(pins)?)?;
    ensure!(hooked == HookedTables::TheSame, "the hooks use {hooked:?}");
    Ok(())
}

/// A stopped daemon's programs, beside pins that were changed meanwhile.
fn deferred(name: &str, change: fn(&Pins) -> Result<()>) -> Result<()> {
    let testbed = Testbed::start(name, FLOWS)?;
    let pins = testbed.started.pins.clone();
    let ingress = || Ok::<_, anyhow::Error>(sys::link_info(link(&pins, "tcx-ingress")?.1.as_fd())?.prog_id);
    let before = ingress()?;
    let frontends = testbed.pinned(names::FRONTENDS4)?.id;
    testbed.stop()?;
    change(&pins)?;
    let mut testbed = Testbed::start(name, FLOWS)?;
    ensure!(ingress()? == before, "hooks were moved before the tables are filled");
    ensure!(
        testbed.pinned(names::FRONTENDS4)?.id != frontends,
        "the plan is written into a table that hooks use"
    );
    filled(&mut testbed)?;
    ensure!(ingress()? != before, "the hook was not moved");
    testbed.stop()
}

fn torn() -> Result<()> {
    deferred("torn", |pins| Ok(fs::remove_file(pins.map(names::SELECTION))?))
}

fn misshapen() -> Result<()> {
    deferred("misshapen", |pins| {
        let path = pins.map(names::BACKENDS4);
        fs::remove_file(&path)?;
        let shape = MapShape {
            name: "BACKENDS4",
            kind: MapKind::Array,
            key_size: 4,
            value_size: 4,
            max_entries: 16,
            flags: 0,
        };
        Ok(sys::pin(sys::create_map(&shape)?.as_fd(), &path)?)
    })
}

fn upgraded() -> Result<()> {
    let testbed = Testbed::start("upgraded", FLOWS)?;
    let pins_of_ours = testbed.started.pins.clone();
    let ours = testbed.programs()?;
    let earlier = testbed.pinned(names::FRONTENDS4)?.id;
    testbed.stop()?;
    let half_made = half_made(&pins_of_ours)?;
    let others = pins("upgraded-others")?;
    let maps = MapSet::open_or_make(&others, &TableSizes::default())?;
    let mut theirs = loaded(&others, maps)?;
    for (label, program) in [("tcx-ingress", "uplink_ingress"), ("tcx-egress", "uplink_egress")] {
        let (_, link) = link(&pins_of_ours, label)?;
        sys::link_update(link.as_fd(), theirs.program(program)?.as_fd())?;
    }
    let mut testbed = Testbed::start("upgraded", FLOWS)?;
    let before = testbed.programs()?;
    ensure!(before != ours, "the hooks were moved before the tables are filled");
    ensure!(
        testbed.pinned(names::FRONTENDS4)?.id != earlier,
        "tables are in use that nothing has kept current while others were in force"
    );
    ensure!(half_made.exists(), "tables were removed before the hooks are moved");
    // Tables may have to grow before they can be filled.
    let more = Capacity { selection: limits::SELECTION * 2, ..Capacity::default() };
    testbed.started.growth.ask.send(more)?;
    let staged = testbed.started.growth.staged.blocking_recv().context("no answer")?;
    (staged.map_err(|text| anyhow!(text))?.swap)()?;
    ensure!(testbed.programs()?.iter().any(|id| before.contains(id)), "the hooks were moved by growth");
    let mut swap = testbed.started.first_swap.take().context("nothing to swap")?;
    swap()?;
    let after = testbed.programs()?;
    ensure!(after.iter().all(|id| !before.contains(id) || ours.contains(id)), "the hooks were not moved");
    ensure!(testbed.maps_in_use()?.contains(&testbed.pinned("SELECTION")?.id), "the hooks use other maps");
    ensure!(!half_made.exists(), "tables are left that no hook uses");
    testbed.stop()
}

/// Tables of another version that was killed while it made them: one map, and a layout of another kind.
fn half_made(pins: &Pins) -> Result<PathBuf> {
    let folder = pins.tables().with_file_name("v4");
    fs::create_dir_all(&folder)?;
    for name in [names::FRONTENDS4, "LAYOUT"] {
        let shape = MapShape {
            name: "HALF",
            kind: MapKind::Hash,
            key_size: 8,
            value_size: 8,
            max_entries: 1,
            flags: 0,
        };
        sys::pin(sys::create_map(&shape)?.as_fd(), &folder.join(name))?;
    }
    Ok(folder)
}

fn taken() -> Result<()> {
    // Makes the interface; the testbed is over.
    Testbed::start("taken", FLOWS)?.stop()?;
    let others = pins("taken-others")?;
    let maps = MapSet::open_or_make(&others, &TableSizes::default())?;
    let program = loaded(&others, maps)?.program("uplink_xdp")?;
    let index = nix::net::if_::if_nametoindex("taken0")?;
    // BPF_XDP in the driver's mode.
    let holder = sys::link_create(program.as_fd(), index, 37, 1 << 2)?;
    let testbed = Testbed::begin("taken", FLOWS, XdpPolicy::Native)?;
    wait::until_true("the hook is refused", ATTACH_LIMIT, || {
        Ok(testbed.hooks.borrow().interfaces.iter().any(|i| i.errors.len() == 1))
    })?;
    drop(holder);
    testbed.until_hooks(3)?;
    testbed.stop()
}
