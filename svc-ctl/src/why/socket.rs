//! The connect path: a socket of the node dials. The kernel has no test run for these programs, so the tables are looked
//! up in the order in which `svc-ebpf/src/hook/sock.rs` does.

use anyhow::Context as _;
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::choose::admits_node;

use super::backends::{self, place, pod_of};
use super::explanation::{Explanation, Verdict};
use super::request::Request;
use super::{AskWanted, found};
use crate::dataplane::dry_run::{self, Net};
use crate::dataplane::hooks::cgroup_label;
use crate::dataplane::lookup;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::Pins;
use crate::observe::wanted::Wanted;

/// Answers for a socket of the node.
pub fn explain<F: Net>(
    pins: &Pins,
    mut maps: Maps,
    ask: AskWanted<'_>,
    request: &Request,
) -> anyhow::Result<Explanation> {
    let config = dry_run::serving_config(pins)?;
    let mut explanation = Explanation::new(request.to_string());
    explanation.step(
        "socket",
        &[],
        "a process of this node dials: the cgroup's programs decide, before there is a packet",
    );
    let address = F::addr(request.to.ip()).context("an address of the other family")?;
    let port = Port::new(request.to.port());
    let found = lookup::frontend::<F>(&maps, (address, port), request.proto, true);
    let unserved = unserved(pins, request);
    let Some(of_scope @ (_, frontend)) = found.frontend else {
        found::none::<F>(&mut explanation, &maps, (&config, Role::NONE), &found, address);
        match (explanation.verdict, unserved) {
            (Verdict::Refused | Verdict::Dropped, Some((text, rules))) => {
                left_alone(&mut explanation, &text, rules)
            }
            (Verdict::Refused, None) => refused(&mut explanation, Counter::SocketRefused),
            (Verdict::Dropped, None) => dropped(&mut explanation, None),
            _ => explanation.step("connect", &[], "the socket dials the address as it is"),
        }
        return Ok(explanation);
    };
    let wanted = found::frontend(&mut explanation, ask, request, &of_scope);
    if let Some((text, rules)) = unserved {
        left_alone(&mut explanation, &text, rules);
        return Ok(explanation);
    }
    let flags = frontend.flags;
    if flags.has(FrontendFlags::SOURCE_RANGES) {
        let has_node = admits_node(flags);
        found::source_ranges(&mut explanation, wanted.as_ref(), "this node", has_node);
        if !has_node {
            dropped(&mut explanation, Some(Counter::DropSourceRange));
            return Ok(explanation);
        }
    }
    let client =
        AffinityKey { service: frontend.service, netns: config.host_netns, addr: F::Addr::default() };
    connect::<F>(&mut explanation, pins, &mut maps, &frontend, Some(client), wanted.as_ref())?;
    Ok(explanation)
}

/// Why no program of the cgroup sees the call, if none does.
fn unserved(pins: &Pins, request: &Request) -> Option<(String, &'static [&'static str])> {
    if request.proto == Proto::SCTP {
        let text = "the kernel calls no program of the cgroup for SCTP: svc does not serve SCTP clients on the node's own \
                    network, and the packet goes to the frontend's address as it is";
        return Some((text.to_owned(), &["SEM-010"]));
    }
    let program = if request.to.is_ipv4() { "connect4" } else { "connect6" };
    let is_attached = pins.link(&cgroup_label(program)).exists();
    (!is_attached)
        .then(|| (format!("{program} is not attached to the cgroup: the call goes unseen"), &[][..]))
}

/// Answers for a socket of a pod that dials a ClusterIP.
pub fn of_pod<F: Net>(
    mut explanation: Explanation,
    pins: &Pins,
    maps: &mut Maps,
    ask: AskWanted<'_>,
    request: &Request,
    of_scope: &(Scope, FrontendValue),
) -> anyhow::Result<Explanation> {
    let text = "the cgroup's programs serve sockets of pods here (--pod-sockets): they decide before there is a packet";
    explanation.step("socket", &[], text);
    let wanted = found::frontend(&mut explanation, ask, request, of_scope);
    connect::<F>(&mut explanation, pins, maps, &of_scope.1, None, wanted.as_ref())?;
    Ok(explanation)
}

/// Adds the steps from the candidates to the connection. Without a `client` its session affinity entry is unknown.
fn connect<F: Net>(
    explanation: &mut Explanation,
    pins: &Pins,
    maps: &mut Maps,
    frontend: &FrontendValue,
    client: Option<AffinityKey<F::Addr>>,
    wanted: Option<&Wanted>,
) -> anyhow::Result<()> {
    let flags = frontend.flags;
    let candidates = backends::candidates::<F>(explanation, maps, frontend, true, wanted)?;
    if candidates.list.is_empty() {
        match flags.has(FrontendFlags::USABLE_ELSEWHERE) {
            true => dropped(explanation, Some(Counter::DropNoLocalEndpoint)),
            false => refused(explanation, Counter::SocketRefused),
        }
        return Ok(());
    }
    let kept = match client {
        Some(client) => backends::affinity::<F>(explanation, pins, frontend, &client, &candidates)?,
        None => None,
    };
    if client.is_none() && frontend.affinity != 0 {
        let text =
            "ClientIP; a pod's socket is known by its network namespace, whose entry is not looked up here";
        explanation.step("affinity", &["SEM-237"], text);
    }
    if kept.is_none() {
        backends::random(explanation, &candidates);
    }
    // Of several backends that are chosen from at random, any may be the socket's.
    let only = if candidates.list.len() == 1 { candidates.list.first().copied() } else { None };
    explanation.verdict = Verdict::Forwarded;
    match kept.or(only) {
        Some(backend) => {
            (explanation.backend, explanation.destination) = (Some(backend.address), Some(backend.address));
            let (address, who) = (backend.address, pod_of(&explanation.endpoints, backend.address));
            let text = format!("the socket is connected to {address}, {}; {who}", place(backend.locality));
            explanation.step("connect", &["SEM-102"], format!("{text}; no packet is translated"));
        }
        None => {
            let text = "the socket is connected to one of the backends itself; no packet is translated";
            explanation.step("connect", &["SEM-102"], text);
        }
    }
    Ok(())
}

fn refused(explanation: &mut Explanation, counter: Counter) {
    (explanation.verdict, explanation.reason) = (Verdict::Refused, Some(counter.label()));
    explanation.step("connect", &["SEM-097"], "the call fails with ECONNREFUSED");
}

fn left_alone(explanation: &mut Explanation, text: &str, rules: &[&'static str]) {
    (explanation.verdict, explanation.reason) = (Verdict::NoService, None);
    explanation.step("connect", rules, text);
}

fn dropped(explanation: &mut Explanation, counter: Option<Counter>) {
    explanation.verdict = Verdict::Dropped;
    explanation.reason = counter.map(Counter::label).or(explanation.reason);
    explanation.step("connect", &["SEM-097"], "the call fails with EPERM");
}
