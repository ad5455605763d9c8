//! Replacement and adoption of programs and maps while they are attached.

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

use crate::hooked::{ATTACH_LIMIT, FLOWS, Testbed};
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
    let mut testbed = Testbed::start("grown", FLOWS)?;
    let (ops, tables) = ops();
    all_done(testbed.started.store.apply(&ops))?;
    let names = ["FRONTENDS4", "FRONTENDS6", "BACKENDS4", "BACKENDS6", "SELECTION", "MAGLEV", "SERVICES"];
    let ids = |testbed: &Testbed| -> Result<Vec<u32>> {
        names.iter().map(|name| Ok(testbed.pinned(name)?.id)).collect()
    };
    let (before, flows) = (ids(&testbed)?, testbed.pinned("FLOWS4")?.id);
    let old = Capacity::default();
    let more = Capacity {
        frontends: old.frontends * 2,
        backends: old.backends * 2,
        selection: old.selection * 2,
        maglev: old.maglev * 2,
        services: old.services * 2,
        ..old
    };
    testbed.started.growth.ask.send(more)?;
    let staged = testbed.started.growth.staged.blocking_recv().context("no answer")?;
    let mut staged = staged.map_err(|text| anyhow!(text))?;
    ensure!(ids(&testbed)? == before, "the pins moved before the swap");
    staged.store.fill_from(&testbed.started.store, &tables)?;
    (staged.swap)()?;
    testbed.started.store = staged.store;
    ensure!(testbed.started.store.capacity() == more, "{:?}", testbed.started.store.capacity());
    ensure!(testbed.started.store.dump()? == tables, "contents: {:#?}", testbed.started.store.dump()?);
    let pinned = Maps::open(&testbed.started.pins)?;
    ensure!(BpfStore(pinned).dump()? == tables, "the pins hold other tables");
    let in_use = testbed.maps_in_use()?;
    for (name, (before, after)) in names.iter().zip(before.iter().zip(ids(&testbed)?)) {
        ensure!(*before != after, "{name} is the old one");
        ensure!(!in_use.contains(before), "a program still uses the old {name}");
    }
    ensure!(in_use.contains(&testbed.pinned("SELECTION")?.id) && in_use.contains(&flows), "{in_use:?}");
    ensure!(testbed.pinned("FLOWS4")?.id == flows, "the flow table was replaced");
    ensure!(!testbed.started.pins.staging().exists(), "something is staged");
    let builds = fs::read_dir(testbed.started.pins.programs())?.count();
    ensure!(builds == 1, "programs of {builds} builds are pinned");
    // A replacement that is requested and never swapped leaves nothing.
    testbed.started.growth.ask.send(Capacity { prefixes: old.prefixes * 2, ..more })?;
    drop(testbed.started.growth.staged.blocking_recv().context("no answer")?);
    wait::until_true("the abandoned one is gone", Duration::from_secs(5), || {
        Ok(!testbed.started.pins.staging().exists()
            && fs::read_dir(testbed.started.pins.programs())?.count() == 1)
    })?;
    // More than there is memory for: the complaint names the table, and the old tables stay.
    testbed.started.growth.ask.send(Capacity { maglev: u32::MAX, ..more })?;
    let refused = testbed.started.growth.staged.blocking_recv().context("no answer")?;
    let text = refused.err().context("4 billion pages were made")?;
    ensure!(text.contains("MAGLEV") && text.contains("4294967295"), "{text}");
    ensure!(!testbed.started.pins.staging().exists(), "something is staged");
    all_done(testbed.started.store.apply(&ops))?;
    testbed.stop()
}

fn carried() -> Result<()> {
    let testbed = Testbed::start("carried", FLOWS)?;
    let mut maps = Maps::open(&testbed.started.pins)?;
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
    testbed.stop()?;
    let testbed = Testbed::start("carried", FLOWS * 2)?;
    wait::until_true("the old table is gone", ATTACH_LIMIT, || {
        Ok(testbed.hooks.borrow().maps_generation == 2)
    })?;
    ensure!(testbed.pinned("FLOWS4")?.max_entries == FLOWS * 2, "{:?}", testbed.pinned("FLOWS4")?);
    let maps = Maps::open(&testbed.started.pins)?;
    let kept = (0..1_000).filter(|n| maps.v4.flows.get(&key(*n), 0).is_ok()).count();
    ensure!(kept == 1_000, "{kept} of 1000 flows are there");
    ensure!(!testbed.started.pins.map("CARRIED4").exists(), "the old table is still pinned");
    ensure!(!testbed.started.pins.staging().exists(), "something is staged");
    let used = testbed.maps_in_use()?;
    ensure!(used.contains(&testbed.pinned("FLOWS4")?.id), "{used:?}");
    testbed.stop()
}

fn adopted() -> Result<()> {
    let testbed = Testbed::start("adopted", FLOWS)?;
    let before = testbed.programs()?;
    testbed.stop()?;
    let start = Instant::now();
    let testbed = Testbed::start("adopted", FLOWS)?;
    let elapsed = start.elapsed();
    println!("adopted after {elapsed:?}");
    ensure!(testbed.programs()? == before, "other programs hang than before");
    testbed.stop()
}
