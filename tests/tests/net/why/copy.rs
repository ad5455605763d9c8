//! The copy of the serving program: over its own tables, of the attached build, through a replacement of tables.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use svc_common::abi::{Direction, FlowKey, FlowRecord, FlowState, Hook, Migration, names};
use svc_common::addr::{Port, Proto};
use svc_common::datapath::state::STAMP_SHIFT;
use svc_ctl::dataplane::carried::set_migration;
use svc_ctl::dataplane::clock::coarse_ns;
use svc_ctl::dataplane::encode::v4;
use svc_ctl::dataplane::map_set::MapSet;
use svc_ctl::dataplane::maps::Maps;
use svc_ctl::dataplane::pins::Pins;
use svc_ctl::dataplane::sys;
use svc_tests::daemon::Flags;
use svc_tests::manifests::SERVER_PORT;
use svc_tests::topology::Family;
use svc_tests::wait;
use svc_tests::world::{CHANGE_LIMIT, READY_LIMIT};

use super::{Add, FORWARDED, ask, contents, differing, expect, has_step, name};
use svc_tests::testbed::{Testbed, no_failure};

pub fn add(add: &mut Add<'_>) {
    let plain = Flags::default();
    add("a copy over live tables is not used", plain, &["near", "far"], live_tables);
    add("an attached program of another build is named", plain, &["near"], other_build);
    add("a record of the flow table that is being replaced decides (SEM-120)", plain, &["near"], carried);
    add("a source port of another flow is not taken (SEM-080)", plain, &["far"], taken_port);
    add("a replacement of tables ends the copy over the old ones", plain, &["near"], growth);
    add("XDP sends the packet on", Flags { xdp: "generic", ..plain }, &["far"], xdp);
}

fn pins(testbed: &mut Testbed) -> Result<Pins> {
    Pins::existing(testbed.world.daemon(1)?.pins())
}

/// The pins of a program below a folder.
fn pinned(dir: &Path, program: &str) -> Vec<PathBuf> {
    let mut paths = svc_tests::bpffs::BpfFs::pins(dir);
    paths.retain(|path| path.ends_with(program));
    paths
}

/// The live program is pinned in the place of the copy: emptying its tables would cut all flows.
fn live_tables(testbed: &mut Testbed) -> Result<()> {
    let client = name(testbed, "client", Family::V4)?;
    for family in Family::BOTH {
        testbed.agent("client")?.ask(svc_tests::agent::Via::Tcp, testbed.node_port(family), 4)?;
    }
    expect(&ask(testbed, &client, testbed.node_port(Family::V4), "TCP")?, FORWARDED, "forwarded")?;
    testbed.world.daemon(1)?.kill()?;
    let pins = pins(testbed)?;
    let is_dry = |path: &&PathBuf| path.iter().any(|part| part == "dry");
    let all = pinned(&pins.tables(), "uplink_ingress");
    let copy = all.iter().find(is_dry).context("no copy")?;
    let live = all.iter().find(|path| !is_dry(path)).context("no live program")?;
    fs::remove_file(copy)?;
    fs::hard_link(live, copy).context("pin the live program in place of the copy")?;
    let before = contents(testbed)?;
    expect(&ask(testbed, &client, testbed.node_port(Family::V4), "TCP")?, FORWARDED, "forwarded")?;
    let differing = differing(&before, &contents(testbed)?);
    ensure!(differing.is_empty(), "{differing:?} differ");
    // Without any link of svc the error names the objects that are pinned in their folder.
    for link in pins.link_names()? {
        fs::remove_file(pins.link(&link))?;
    }
    fs::hard_link(live, pins.link("other")).context("pin a program among the links")?;
    let error =
        ask(testbed, &client, testbed.node_port(Family::V4), "TCP").err().map(|error| format!("{error:#}"));
    ensure!(error.as_ref().is_some_and(|error| error.contains("could be read: link other")), "{error:?}");
    Ok(())
}

fn other_build(testbed: &mut Testbed) -> Result<()> {
    testbed.answered_by("near", "pod", svc_tests::agent::Via::Tcp, testbed.cluster_ip(Family::V4))?;
    let pod = name(testbed, "pod", Family::V4)?;
    let same = ask(testbed, &pod, testbed.cluster_ip(Family::V4), "TCP")?;
    ensure!(has_step(&same, "program", "another build", "").is_err(), "{:#}", same.1);
    testbed.world.daemon(1)?.kill()?;
    let pins = pins(testbed)?;
    let other = pinned(&pins.programs(), "uplink_ingress").pop().context("no other program")?;
    let other = sys::open_pin(&other)?;
    for link in pins.link_names()?.iter().filter(|name| name.starts_with("tcx-ingress")) {
        sys::link_update(sys::open_pin(&pins.link(link))?.as_fd(), other.as_fd())?;
    }
    let answered = ask(testbed, &pod, testbed.cluster_ip(Family::V4), "UDP")?;
    // Without a daemon the sockets of pods are served at the cgroup; the program at TC is still the one that is asked.
    has_step(&answered, "program", "another build", "")
}

/// The forward record of a stream to the NodePort.
fn forward_record(testbed: &mut Testbed, to: SocketAddr) -> Result<Value> {
    wait::until("the flow has a record", CHANGE_LIMIT, || {
        let (node, daemon) = testbed.world.on_node(1)?;
        let flows = daemon.get(node, "flows")?;
        let is_it = |flow: &&Value| flow["direction"] == "forward" && flow["to"] == to.to_string();
        Ok(flows.as_array().and_then(|flows| flows.iter().find(is_it).cloned()))
    })
}

/// The state after a daemon was killed while it replaced the flow table: the new table is empty.
fn carried(testbed: &mut Testbed) -> Result<()> {
    let to = testbed.node_port(Family::V4);
    let stream = testbed.agent("client")?.start_stream(to, 20)?;
    let record = forward_record(testbed, to)?;
    let from = record["from"].as_str().context("a source")?.to_owned();
    testbed.world.daemon(1)?.kill()?;
    let pins = pins(testbed)?;
    let mut set = MapSet::open(&pins)?;
    let old = Arc::clone(set.get(names::FLOWS4)?);
    set.renew(names::FLOWS4)?;
    set.renew(names::MIGRATION)?;
    sys::pin(old.fd.as_fd(), &pins.map(names::CARRIED4))?;
    set.pin(|name| pins.map(name))?;
    set_migration(&set, Migration::READ_OLD)?;
    let answered = ask(testbed, &from, to, "TCP")?;
    expect(&answered, FORWARDED, "forwarded")?;
    has_step(&answered, "flow", "a forward record", "SEM-120")?;
    ensure!(answered.1["source"] == record["becomes_from"], "{record:#}: {:#}", answered.1);
    no_failure("the stream", &stream.stop()?)
}

/// A record by hand: another client has the first source port that the masquerade tries.
fn taken_port(testbed: &mut Testbed) -> Result<()> {
    let (client, to) = (name(testbed, "client", Family::V4)?, testbed.node_port(Family::V4));
    let first = ask(testbed, &client, to, "TCP")?;
    expect(&first, FORWARDED, "forwarded")?;
    let end =
        |field: &str| -> Result<SocketAddr> { Ok(first.1[field].as_str().context("no address")?.parse()?) };
    let (source, backend) = (end("source")?, end("backend")?);
    ensure!(backend.port() == SERVER_PORT && source.ip() == to.ip(), "{:#}", first.1);
    testbed.world.daemon(1)?.kill()?;
    let mut maps = Maps::open(&pins(testbed)?)?;
    let address = |end: SocketAddr| match end.ip() {
        std::net::IpAddr::V4(ip) => Ok(v4(ip)),
        other @ std::net::IpAddr::V6(_) => anyhow::bail!("{other} is no IPv4 address"),
    };
    let key = FlowKey {
        src: address(backend)?,
        dst: address(source)?,
        sport: Port::new(backend.port()),
        dport: Port::new(source.port()),
        proto: Proto::TCP,
        _pad: [0; 3],
    };
    let record = FlowRecord {
        dst: v4([203, 0, 113, 99].into()),
        dport: Port::new(1_234),
        state: FlowState::ESTABLISHED.with(FlowState::REPLIED),
        direction: Direction::REVERSE,
        hook: Hook::INGRESS,
        stamp: (coarse_ns() >> STAMP_SHIFT) as u32,
        ..FlowRecord::default()
    };
    maps.v4.flows.insert(key, record, 0)?;
    let second = ask(testbed, &client, to, "TCP")?;
    expect(&second, FORWARDED, "forwarded")?;
    ensure!(second.1["source"] != first.1["source"], "the port is taken: {:#}", second.1);
    has_step(&second, "source port", "1 tried before", "SEM-080")
}

fn growth(testbed: &mut Testbed) -> Result<()> {
    let (client, to) = (name(testbed, "client", Family::V4)?, testbed.node_port(Family::V4));
    let folders = |testbed: &mut Testbed| -> Result<Vec<PathBuf>> {
        let dir = pins(testbed)?.dry_programs();
        Ok(fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect())
    };
    expect(&ask(testbed, &client, to, "TCP")?, FORWARDED, "forwarded")?;
    let before = folders(testbed)?;
    ensure!(before.len() == 1, "{before:?}");
    let table = |testbed: &mut Testbed| -> Result<(u32, u32)> {
        let info = MapSet::open(&pins(testbed)?)?.get(names::FLOWS4)?.info;
        Ok((info.id, info.max_entries))
    };
    let (old, size) = table(testbed)?;
    testbed.world.daemon(1)?.kill()?;
    testbed.world.daemon(1)?.more = vec!["--flow-table-size".into(), (2 * size).to_string()];
    testbed.world.restart(1)?;
    wait::until_true("the tables are replaced, and the copy over the old ones is gone", READY_LIMIT, || {
        Ok(table(testbed)?.0 != old && folders(testbed)?.is_empty())
    })?;
    // The daemon may be about to replace more tables.
    wait::until_true("the answer is one over the new tables", READY_LIMIT, || {
        let answered = ask(testbed, &client, to, "TCP")?;
        expect(&answered, FORWARDED, "forwarded")?;
        let after = folders(testbed)?;
        Ok(after.len() == 1 && after != before)
    })?;
    // Cleaning up removes the copy like all other pins.
    testbed.world.end_daemons()
}

fn xdp(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        // The next hop is resolved by traffic.
        testbed.answered_by("far", "client", svc_tests::agent::Via::Tcp, testbed.node_port(family))?;
        let answered = ask(testbed, &name(testbed, "client", family)?, testbed.node_port(family), "TCP")?;
        expect(&answered, FORWARDED, "forwarded")?;
        has_step(&answered, "leaves", "by XDP out of eth0", "")?;
    }
    Ok(())
}
