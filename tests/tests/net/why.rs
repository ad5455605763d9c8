//! `svc-ctl why` beside real traffic: it answers as the datapath does and leaves no trace. The cells of the matrix ask it,
//! too.

mod copy;
mod page;
mod reasons;
mod replies;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use svc_common::abi::{EntryCount, FrontendKey, Scope, ServiceCounters, limits, names};
use svc_common::addr::{Port, Proto};
use svc_ctl::dataplane::encode::{v4, v6};
use svc_ctl::dataplane::entries;
use svc_ctl::dataplane::map_set::MapSet;
use svc_ctl::dataplane::maps::Maps;
use svc_ctl::dataplane::pins::Pins;
use svc_ctl::dataplane::sys;
use svc_tests::agent::Via;
use svc_tests::bpffs::BpfFs;
use svc_tests::daemon::Flags;
use svc_tests::manifests::{SERVER_PORT, SERVICE_PORT, Service};
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

const FORWARDED: i32 = 0;
const REFUSED: i32 = 3;
const NO_SERVICE: i32 = 5;
const DROPPED: i32 = 4;

/// Adds a scenario: its law, the flags of the daemons, the backends of the Service.
type Add<'a> = dyn FnMut(&str, Flags, &'static [&'static str], fn(&mut Testbed) -> Result<()>) + 'a;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![page::trial()];
    for (shape, shape_name) in [(Shape::Routed, "routed"), (Shape::Bridged, "bridged")] {
        let mut add = |law: &str,
                       flags: Flags,
                       backends: &'static [&'static str],
                       act: fn(&mut Testbed) -> Result<()>| {
            let testbed = move |test: &str| {
                let options = Options { shape, ..Options::default() };
                Testbed::new(&format!("{test} {shape_name}"), options, flags, backends)
            };
            trials.push(scenario(&format!("{shape_name}, why: {law}"), testbed, act));
        };
        let plain = Flags::default();
        add("an answer leaves no trace in any table", plain, &["near", "far"], no_trace);
        add("a Service without endpoints refuses (SEM-091)", plain, &[], refused);
        add("session affinity decides as for the client (SEM-231)", plain, &["near", "far"], affinity);
        add("a packet of a live flow goes where its record says (SEM-120)", plain, &["near"], flow);
        add("get --diff names a frontend that the kernel lacks", plain, &["near"], diff);
        add("other packets and bad input have clear answers", plain, &["near"], others);
        copy::add(&mut add);
        reasons::add(&mut add);
        replies::add(&mut add);
    }
    trials
}

/// Contents of every pinned table, and all pins but that of the copy for dry runs.
fn contents(testbed: &mut Testbed) -> Result<BTreeMap<String, Value>> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let mut contents = BTreeMap::from([("services".to_owned(), daemon.get(node, "services")?)]);
    let pins = Pins::existing(daemon.pins())?;
    for name in names::TABLES.iter().chain(names::RECORDS) {
        contents.insert((*name).to_owned(), json!(table(&pins, name)?));
    }
    let mut paths = BpfFs::pins(daemon.pins());
    paths.retain(|path| !path.starts_with(pins.dry_programs()));
    paths.sort();
    contents.insert("pins".to_owned(), json!(paths));
    Ok(contents)
}

/// Every entry of a table, sorted.
fn table(pins: &Pins, name: &str) -> Result<Vec<Vec<u8>>> {
    let capacity = MapSet::open(pins)?.get(name)?.info.max_entries;
    let mut rows = Vec::new();
    match name {
        names::COUNTERS => rows.push(format!("{:?}", entries::per_cpu::<u64>(pins, name, capacity)?).into()),
        names::SERVICES => {
            rows.push(format!("{:?}", entries::per_cpu::<ServiceCounters>(pins, name, capacity)?).into())
        }
        names::ENTRIES => {
            rows.push(format!("{:?}", entries::per_cpu::<EntryCount>(pins, name, capacity)?).into())
        }
        // One value of many words.
        names::PRESENCE => {
            let mut words = vec![0; limits::PRESENCE as usize * size_of::<u64>()];
            sys::look_up_entry(MapSet::open(pins)?.fd(name)?, &0_u32.to_ne_bytes(), &mut words)?;
            rows.push(words);
        }
        _ => drop(entries::each_raw(pins, name, |key, value| rows.push([key, value].concat()))?),
    }
    rows.sort();
    Ok(rows)
}

/// The names of the tables that differ; empty if none does.
fn differing(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut names: Vec<String> =
        names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// Fails unless a step has this text and this rule.
fn has_step(answered: &(i32, Value), step: &str, text: &str, rule: &str) -> Result<()> {
    let steps = answered.1["steps"].as_array().context("no steps")?;
    let is_it = |found: &&Value| {
        let rules = found["rules"].as_array().into_iter().flatten();
        found["step"] == step
            && found["text"].as_str().is_some_and(|found| found.contains(text))
            && (rule.is_empty() || rules.into_iter().any(|found| found == rule))
    };
    ensure!(
        steps.iter().any(|found| is_it(&found)),
        "no step {step} with {text:?} and {rule}: {:#}",
        answered.1
    );
    Ok(())
}

fn ask(testbed: &Testbed, client: &str, to: SocketAddr, proto: &str) -> Result<(i32, Value)> {
    testbed.world.why(1, &[&format!("{client} -> {to}/{proto}")])
}

/// The address of a client, as `why` takes it.
fn name(testbed: &Testbed, client: &str, family: Family) -> Result<String> {
    Ok(match client {
        "node1" => "node".to_owned(),
        _ => testbed.world.topology.host(client)?.addrs.of(family).to_string(),
    })
}

fn expect(answered: &(i32, Value), code: i32, verdict: &str) -> Result<()> {
    ensure!(
        answered.0 == code && answered.1["verdict"] == verdict,
        "expected {verdict} and exit {code}: exit {}, {:#}",
        answered.0,
        answered.1
    );
    Ok(())
}

/// The daemon is killed, so that nothing else writes between the two readings.
fn no_trace(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        for client in ["pod", "client", "node1"] {
            testbed.agent(client)?.ask(Via::Tcp, testbed.cluster_ip(family), 4)?;
        }
    }
    testbed.world.daemon(1)?.kill()?;
    let before = contents(testbed)?;
    for name in ["FLOWS4", "FLOWS6"] {
        ensure!(
            before.get(name).and_then(Value::as_array).is_some_and(|rows| !rows.is_empty()),
            "{name} is empty"
        );
    }
    for family in Family::BOTH {
        for client in ["pod", "client", "node1"] {
            for proto in ["TCP", "UDP"] {
                for to in [testbed.cluster_ip(family), testbed.node_port(family)] {
                    let answered = ask(testbed, &name(testbed, client, family)?, to, proto)?;
                    expect(&answered, FORWARDED, "forwarded")?;
                }
            }
        }
    }
    let differing = differing(&before, &contents(testbed)?);
    ensure!(differing.is_empty(), "{differing:?} differ");
    Ok(())
}

fn refused(testbed: &mut Testbed) -> Result<()> {
    // A bridge learns the port of a pod by its packets.
    let _ = testbed.agent("pod")?.refused(Via::Tcp, testbed.cluster_ip(Family::V4))?;
    let _ = testbed.agent("pod")?.refused(Via::Tcp, testbed.cluster_ip(Family::V6))?;
    for family in Family::BOTH {
        for client in ["pod", "client", "node1"] {
            for to in [testbed.cluster_ip(family), testbed.node_port(family)] {
                let answered = ask(testbed, &name(testbed, client, family)?, to, "TCP")?;
                expect(&answered, REFUSED, "refused")?;
            }
        }
        let unknown = (testbed.cluster_ip(family).ip(), 81).into();
        let answered = ask(testbed, &name(testbed, "client", family)?, unknown, "UDP")?;
        expect(&answered, REFUSED, "refused")?;
        ensure!(answered.1["reason"] == "reject_unknown_port", "{:#}", answered.1);
    }
    Ok(())
}

fn affinity(testbed: &mut Testbed) -> Result<()> {
    let service = Service { affinity: Some(1_000), ..testbed.service(&["near", "far"])? };
    testbed.world.folder.write_service(&service)?;
    for family in Family::BOTH {
        for client in ["pod", "client", "node1"] {
            let to = testbed.cluster_ip(family);
            let own = name(testbed, client, family)?;
            let has_entry = |testbed: &Testbed| -> Result<Option<Value>> {
                let answers = testbed.agent(client)?.ask(Via::Tcp, to, 1)?;
                let server = &answers.first().context("an answer")?.server;
                let address = testbed.world.topology.host(server)?.addrs.of(family);
                let (_, answer) = ask(testbed, &own, to, "TCP")?;
                let keeps = answer.to_string().contains("the client keeps");
                let backend = SocketAddr::new(address, SERVER_PORT).to_string();
                ensure!(!keeps || answer["backend"] == backend, "{server} answered: {answer:#}");
                Ok(keeps.then_some(answer))
            };
            wait::until("the Service has session affinity", CHANGE_LIMIT, || has_entry(testbed))?;
        }
    }
    Ok(())
}

fn flow(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        let stream = testbed.agent("client")?.start_stream(testbed.node_port(family), 20)?;
        let flow = wait::until("the flow has a record", CHANGE_LIMIT, || {
            let (node, daemon) = testbed.world.on_node(1)?;
            let flows = daemon.get(node, "flows")?;
            let to = testbed.node_port(family).to_string();
            let is_it =
                |flow: &&Value| flow["direction"] == "forward" && flow["to"] == to && flow["proto"] == 6;
            Ok(flows.as_array().and_then(|flows| flows.iter().find(is_it).cloned()))
        })?;
        let from = flow["from"].as_str().context("a source")?;
        let answered = ask(testbed, from, testbed.node_port(family), "TCP")?;
        expect(&answered, FORWARDED, "forwarded")?;
        ensure!(answered.1["backend"] == flow["becomes_to"], "{flow:#}: {:#}", answered.1);
        ensure!(answered.1["source"] == flow["becomes_from"], "{flow:#}: {:#}", answered.1);
        ensure!(
            answered.1["steps"][1]["text"].as_str().is_some_and(|text| text.contains("record")),
            "{answered:?}"
        );
        svc_tests::testbed::no_failure("the stream", &stream.stop()?)?;
    }
    Ok(())
}

fn others(testbed: &mut Testbed) -> Result<()> {
    for family in Family::BOTH {
        let client = name(testbed, "client", family)?;
        let node = testbed.world.topology.node(1).host.addrs.of(family);
        for (port, code, verdict) in [(22, NO_SERVICE, "no-service"), (30080, FORWARDED, "forwarded")] {
            expect(&ask(testbed, &client, (node, port).into(), "TCP")?, code, verdict)?;
        }
        let pod = testbed.world.topology.host("near")?.addrs.of(family);
        expect(&ask(testbed, &client, (pod, SERVER_PORT).into(), "TCP")?, NO_SERVICE, "no-service")?;
    }
    let to = format!("{}:{SERVICE_PORT}", testbed.cluster_ip(Family::V4).ip());
    for (arguments, expected) in [
        (vec!["10.0.0.1", "-"], "the shell took `>`"),
        (vec!["fd00::1", "to", &to], "different families"),
        (vec!["203.0.113.1", "to", &to, "--in", "nowhere"], "--in nowhere: no such interface"),
        (vec!["node", "to", &to, "--in", "eth0"], "--in: a process of this node"),
    ] {
        let error = testbed.world.why(1, &arguments).err().map(|error| format!("{error:#}"));
        ensure!(error.as_ref().is_some_and(|error| error.contains(expected)), "{arguments:?}: {error:?}");
    }
    Ok(())
}

/// `svc-ctl get services --diff`: the exit code and the rows.
fn differences(testbed: &mut Testbed) -> Result<(Option<i32>, Value)> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let mut command = node.host.command(daemon.binary())?;
    command
        .args(["get", "services", "--diff", "-o", "json", "-n", "default", "--run-dir"])
        .arg(daemon.run_dir());
    let output = command.arg("--pin-dir").arg(daemon.pins()).output()?;
    let rows = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.code(), rows))
}

fn diff(testbed: &mut Testbed) -> Result<()> {
    let before = differences(testbed)?;
    ensure!(before == (Some(0), Value::Array(Vec::new())), "{before:?}");
    for family in Family::BOTH {
        let to = testbed.cluster_ip(family);
        let mut maps = Maps::open(&Pins::existing(testbed.world.daemon(1)?.pins())?)?;
        let (port, proto, scope) = (Port::new(to.port()), Proto::TCP, Scope::ADDRESS);
        match to.ip() {
            IpAddr::V4(ip) => maps.v4.frontends.remove(&FrontendKey { addr: v4(ip), port, proto, scope })?,
            IpAddr::V6(ip) => maps.v6.frontends.remove(&FrontendKey { addr: v6(ip), port, proto, scope })?,
        }
        let (code, rows) = differences(testbed)?;
        let frontend = Value::from(format!("{to}/TCP"));
        let found = rows.as_array().into_iter().flatten().find(|row| row["frontend"] == frontend);
        let is_named = found.is_some_and(|row| row["difference"] == "not in the kernel");
        ensure!(code == Some(3) && is_named, "exit {code:?}: {rows:#}");
    }
    Ok(())
}
