//! Frames for another machine, as flooded by a switch: the node must ignore them.

use std::fs;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::{Job, Report, Via};
use svc_tests::daemon::Flags;
use svc_tests::netns::Netns;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Offloads, Options, Shape};
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

/// A MAC that no host has: the LAN floods frames to it to every port.
const NOBODY: &str = "02:00:00:00:99:99";
/// Requests of each kind that must get no reply.
const TRIES: u64 = 2;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (xdp, offloads) in [("off", Offloads::Default), ("native", Offloads::ForXdp)] {
        for shape in [Shape::Routed, Shape::Bridged] {
            for (backends, what) in [(&["near"][..], "is not answered"), (&[], "is not refused")] {
                let options = Options { shape, offloads, ..Options::default() };
                trials.push(scenario(
                    &format!("XDP {xdp}, {shape:?}: a request in a frame for another machine {what}"),
                    move |test| {
                        let name = format!("{test} {xdp} {shape:?} {}", backends.len());
                        Testbed::new(&name, options, Flags { xdp, ..Flags::default() }, backends)
                    },
                    move |testbed| ignored(testbed, !backends.is_empty()),
                ));
            }
        }
    }
    trials
}

fn ignored(testbed: &mut Testbed, served: bool) -> Result<()> {
    // The first ICMP error may come too early for connect() to see it (see `refused`), so TCP would prove nothing.
    let vias: &[Via] = if served { &[Via::Tcp, Via::UdpConnected] } else { &[Via::UdpConnected] };
    let heard = |report: &Report| if served { report.ok > 0 } else { refused(report) };
    // With the correct MAC, every request gets a reply.
    let spoken = loads(testbed, vias)?;
    for (what, job) in spoken {
        wait::until_true(&format!("{what} hears something"), CHANGE_LIMIT, || {
            let report = job.look()?;
            ensure!(heard(&report), "it heard {report:?}");
            Ok(true)
        })?;
        job.stop()?;
    }

    misaddress(testbed)?;
    let (node, uplink) = (&testbed.world.topology.node(1).host.netns, "eth0");
    let before = frames_received(node, uplink)?;
    let jobs = loads(testbed, vias)?;
    let expected = TRIES * u64::try_from(jobs.len())?;
    for (what, job) in jobs {
        wait::until_true(&format!("{what} gives up {TRIES} times"), CHANGE_LIMIT, || {
            let report = job.look()?;
            Ok(report.failed >= TRIES || report.ok > 0)
        })?;
        let report = job.stop()?;
        ensure!(report.ok == 0, "{what}: {:?} answered", report.by_server);
        ensure!(!refused(&report), "{what}: {:?}", report.first_failure);
    }
    let frames = frames_received(node, uplink)? - before;
    ensure!(frames >= expected, "the LAN brought {frames} frames of {expected}: nothing was tried");
    Ok(())
}

/// Every kind of request, in the background, so that all time out together.
fn loads(testbed: &Testbed, vias: &[Via]) -> Result<Vec<(String, Job)>> {
    let client = testbed.agent("client")?;
    let mut jobs = Vec::new();
    for family in Family::BOTH {
        for to in [testbed.cluster_ip(family), testbed.node_port(family)] {
            for &via in vias {
                jobs.push((format!("{via} {to}"), client.start_load(via, to, 10)?));
            }
        }
    }
    Ok(jobs)
}

fn refused(report: &Report) -> bool {
    report.first_failure.as_ref().is_some_and(|failure| failure.contains("refused"))
}

/// From now on the client has another MAC for node1.
fn misaddress(testbed: &Testbed) -> Result<()> {
    let node = testbed.world.topology.node(1).host.addrs;
    testbed.world.topology.client.netns.ip(&format!(
        "neigh replace {} lladdr {NOBODY} dev eth0 nud permanent\n\
         neigh replace {} lladdr {NOBODY} dev eth0 nud permanent",
        node.v4, node.v6
    ))
}

/// Number of frames received at an interface, for any destination.
fn frames_received(netns: &Netns, interface: &str) -> Result<u64> {
    let table = netns.within(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let prefix = format!("{interface}:");
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&prefix));
    let frames = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    frames.with_context(|| format!("no {interface} in {table}"))
}
