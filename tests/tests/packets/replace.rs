//! Programs and maps that are replaced and adopted while they hang somewhere.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use libtest_mimic::Trial;
use svc_common::abi::*;
use svc_common::addr::{AddrV4, Proto};
use svc_ctl::dataplane::bpf::BpfStore;
use svc_ctl::dataplane::maps::Maps;
use svc_ctl::dataplane::store::MapStore as _;
use svc_ctl::plan::capacity::Capacity;
use svc_tests::packet::kernel;
use svc_tests::wait;
use tokio::time::Instant;

use crate::hooked::{ATTACH_LIMIT, FLOWS, Stage};
use crate::tables::{all_done, ops, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "tables grow under attached programs: links, pins and contents move, and nothing stays staged",
            grown,
        ),
        trial("a flow table of another size carries its flows over", carried),
        trial("a second start of the same build loads nothing", adopted),
    ]
}

fn grown() -> Result<()> {
    let mut stage = Stage::start("grown", FLOWS)?;
    let (ops, tables) = ops();
    all_done(stage.started.store.apply(&ops))?;
    let names = ["FRONTENDS4", "FRONTENDS6", "BACKENDS4", "BACKENDS6", "SELECTION", "MAGLEV", "SERVICES"];
    let ids =
        |stage: &Stage| -> Result<Vec<u32>> { names.iter().map(|name| Ok(stage.pinned(name)?.id)).collect() };
    let (before, flows) = (ids(&stage)?, stage.pinned("FLOWS4")?.id);
    let old = Capacity::default();
    let more = Capacity {
        frontends: old.frontends * 2,
        backends: old.backends * 2,
        selection: old.selection * 2,
        maglev: old.maglev * 2,
        services: old.services * 2,
        ..old
    };
    stage.started.growth.ask.send(more)?;
    let staged = stage.started.growth.staged.blocking_recv().context("no answer")?;
    let mut staged = staged.map_err(|text| anyhow!(text))?;
    ensure!(ids(&stage)? == before, "the pins moved before the swap");
    staged.store.fill_from(&stage.started.store, &tables)?;
    (staged.swap)()?;
    stage.started.store = staged.store;
    ensure!(stage.started.store.capacity() == more, "{:?}", stage.started.store.capacity());
    ensure!(stage.started.store.dump()? == tables, "contents: {:#?}", stage.started.store.dump()?);
    let pinned = Maps::open(&stage.started.pins)?;
    ensure!(BpfStore(pinned).dump()? == tables, "the pins hold other tables");
    let in_use = stage.maps_in_use()?;
    for (name, (before, after)) in names.iter().zip(before.iter().zip(ids(&stage)?)) {
        ensure!(*before != after, "{name} is the old one");
        ensure!(!in_use.contains(before), "a program still uses the old {name}");
    }
    ensure!(in_use.contains(&stage.pinned("SELECTION")?.id) && in_use.contains(&flows), "{in_use:?}");
    ensure!(stage.pinned("FLOWS4")?.id == flows, "the flow table was replaced");
    ensure!(!stage.started.pins.staging().exists(), "something is staged");
    let builds = fs::read_dir(stage.started.pins.programs())?.count();
    ensure!(builds == 1, "programs of {builds} builds are pinned");
    // What is asked for and never swapped leaves nothing.
    stage.started.growth.ask.send(Capacity { prefixes: old.prefixes * 2, ..more })?;
    drop(stage.started.growth.staged.blocking_recv().context("no answer")?);
    wait::until_true("the abandoned one is gone", Duration::from_secs(5), || {
        Ok(!stage.started.pins.staging().exists()
            && fs::read_dir(stage.started.pins.programs())?.count() == 1)
    })?;
    // More than there is memory for: named, and the old ones go on.
    stage.started.growth.ask.send(Capacity { maglev: u32::MAX, ..more })?;
    let refused = stage.started.growth.staged.blocking_recv().context("no answer")?;
    let text = refused.err().context("4 billion pages were made")?;
    ensure!(text.contains("MAGLEV") && text.contains("4294967295"), "{text}");
    ensure!(!stage.started.pins.staging().exists(), "something is staged");
    all_done(stage.started.store.apply(&ops))?;
    stage.stop()
}

fn carried() -> Result<()> {
    let stage = Stage::start("carried", FLOWS)?;
    let mut maps = Maps::open(&stage.started.pins)?;
    let key = |n: u32| FlowKey::<AddrV4> {
        src: AddrV4::new(n.to_be_bytes()),
        proto: Proto::TCP,
        ..FlowKey::default()
    };
    let state = FlowState(FlowState::REPLIED.0 | FlowState::ESTABLISHED.0);
    let record = FlowRecord { stamp: kernel::now(), state, ..FlowRecord::default() };
    for n in 0..1_000 {
        maps.v4.flows.insert(key(n), record, 0)?;
    }
    drop(maps);
    stage.stop()?;
    let stage = Stage::start("carried", FLOWS * 2)?;
    wait::until_true(
        "the old table is gone",
        ATTACH_LIMIT,
        || Ok(stage.hooks.borrow().maps_generation == 2),
    )?;
    ensure!(stage.pinned("FLOWS4")?.max_entries == FLOWS * 2, "{:?}", stage.pinned("FLOWS4")?);
    let maps = Maps::open(&stage.started.pins)?;
    let kept = (0..1_000).filter(|n| maps.v4.flows.get(&key(*n), 0).is_ok()).count();
    ensure!(kept == 1_000, "{kept} of 1000 flows are there");
    ensure!(!stage.started.pins.map("CARRIED4").exists(), "the old table is still pinned");
    ensure!(!stage.started.pins.staging().exists(), "something is staged");
    let used = stage.maps_in_use()?;
    ensure!(used.contains(&stage.pinned("FLOWS4")?.id), "{used:?}");
    stage.stop()
}

fn adopted() -> Result<()> {
    let stage = Stage::start("adopted", FLOWS)?;
    let before = stage.programs()?;
    stage.stop()?;
    let start = Instant::now();
    let stage = Stage::start("adopted", FLOWS)?;
    let elapsed = start.elapsed();
    println!("adopted after {elapsed:?}");
    ensure!(stage.programs()? == before, "other programs hang than before");
    stage.stop()
}
