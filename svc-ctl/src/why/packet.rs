//! A packet that comes by an interface: the dry run decides, the tables explain.

use std::net::SocketAddr;

use anyhow::Context as _;
use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::state::is_expired;

use super::answer::{Answer, Verdict};
use super::backends::{self, Candidates};
use super::origin::Interface;
use super::request::Request;
use super::{AskWanted, found, leaving, octets, socket};
use crate::dataplane::dry_run::{Action, DryRun, DryRunResult, Net};
use crate::dataplane::encode::Encode;
use crate::dataplane::flows;
use crate::dataplane::lookup::{self, Found};
use crate::dataplane::pins::Pins;

/// Answers for a packet that comes by this interface.
pub fn explain<F: Net>(
    pins: &Pins,
    ask: AskWanted<'_>,
    request: &Request,
    client: SocketAddr,
    interface: &Interface,
) -> anyhow::Result<Answer> {
    let key = key::<F>(client, request)?;
    let role = interface.entry.role;
    // A tunnel's program differs from an uplink's only in the frame's header.
    let program = if role == Role::POD { "pod_ingress" } else { "uplink_ingress" };
    let mut dry = DryRun::of(pins, program)?;
    let known = live_record::<F>(&dry, &key);
    let found = lookup::frontend::<F>(&dry.live, (key.dst, key.dport), key.proto, AddressFlags::NODE_PORT);
    let is_pod = is_local_pod::<F>(&dry, interface, key.src);
    let mut answer = Answer::new(request.to_string());
    interface_step(&mut answer, &dry.config, interface, is_pod);
    if let Some(of_scope) = &found.frontend
        && known.is_none()
        && is_pod
        && is_for_sockets::<F>(&mut dry, &of_scope.1, key.proto)?
    {
        return socket::of_pod::<F>(answer, pins, &mut dry.live, ask, request, of_scope);
    }
    let service = found.frontend.map(|(_, frontend)| frontend.service);
    let affinity = service.map(|service| AffinityKey { service, netns: [0; 2], addr: key.src });
    let frame = octets::frame::<F>(&key, interface.entry.mac, known.is_none());
    let ran = dry.run::<F>(&frame, interface.index, &key, affinity)?;
    match known {
        Some(record) => flow_step(&mut answer, ask, &key, &record),
        None => {
            answer.step("flow", &[], "no record: the packet would begin a flow");
            decision::<F>(&mut answer, pins, &mut dry, ask, request, (&key, &found, is_pod, affinity))?;
        }
    }
    judge(&mut answer, &found, &ran, &frame);
    if answer.verdict == Verdict::Forwarded {
        let frontend = found.frontend.map(|(_, frontend)| frontend).filter(|_| known.is_none());
        let flow = leaving::Leaving { pins, interface, key: &key, ran: &ran, frontend, is_pod };
        flow.steps::<F>(&mut answer, &mut dry);
    }
    Ok(answer)
}

fn key<F: Net>(client: SocketAddr, request: &Request) -> anyhow::Result<FlowKey<F::Addr>> {
    let addr = |ip| F::addr(ip).context("addresses of different families");
    Ok(FlowKey {
        src: addr(client.ip())?,
        dst: addr(request.to.ip())?,
        sport: Port::new(client.port()),
        dport: Port::new(request.to.port()),
        proto: request.proto,
        _pad: [0; 3],
    })
}

/// The live flow record of a tuple, unless a new connection could take it.
fn live_record<F: Net>(dry: &DryRun, key: &FlowKey<F::Addr>) -> Option<FlowRecord<F::Addr>> {
    let record = F::maps(&dry.live).flows.get(key, 0).ok()?;
    let is_over = is_expired(key.proto, record.state, flows::now(), record.stamp)
        || (key.proto == Proto::TCP && record.state.is_closing());
    (!is_over).then_some(record)
}

/// A socket of a pod that dials this frontend is connected to a backend before there is a packet.
fn is_for_sockets<F: Net>(dry: &mut DryRun, frontend: &FrontendValue, proto: Proto) -> anyhow::Result<bool> {
    let flags = frontend.flags;
    let is_internal = !flags.has(FrontendFlags::EXTERNAL) && !flags.has(FrontendFlags::MASQUERADE_PODS);
    if proto == Proto::SCTP || !is_internal || !dry.serves_pod_sockets()? {
        return Ok(false);
    }
    // Datagrams to the node itself are left to the packets' programs.
    let members = lookup::members::<F>(&mut dry.live, frontend.cluster)?;
    Ok(proto == Proto::TCP || members.iter().all(|member| member.locality != Locality::HOST))
}

fn is_local_pod<F: Net>(dry: &DryRun, interface: &Interface, client: F::Addr) -> bool {
    match dry.config.pods_by_source {
        0 => interface.entry.flags.has(IfaceFlags::LOCAL_PODS),
        _ => lookup::is_listed::<F>(&dry.live, PrefixList::LOCAL_PODS, client),
    }
}

fn interface_step(answer: &mut Answer, config: &Config, interface: &Interface, is_pod: bool) {
    let Interface { name, entry, because, .. } = interface;
    let role = if entry.role == Role::POD { "a pod interface" } else { "an uplink" };
    let by = if config.pods_by_source != 0 { "source address" } else { "interface" };
    let client = match is_pod {
        true => format!("a local pod, by its {by}"),
        false => format!("no local pod, by its {by}"),
    };
    answer.step("interface", &["SEM-090"], format!("{name}, {role} ({because}); the client is {client}"));
}

fn flow_step<A: Encode>(answer: &mut Answer, ask: AskWanted<'_>, key: &FlowKey<A>, record: &FlowRecord<A>) {
    let flow = flows::flow(key, record, flows::now());
    let text = format!(
        "a {} record ({}; last packet {} ticks ago, expires after {}): {} > {} at {}",
        flow.direction, flow.state, flow.age, flow.lifetime, flow.becomes_from, flow.becomes_to, flow.hook
    );
    answer.step("flow", &["SEM-079", "SEM-120"], text);
    answer.service = Some(found::service_name(ask(record.service.0).as_ref(), record.service));
}

/// Facts of a packet without record.
type Facts<'a, A> = (&'a FlowKey<A>, &'a Found, bool, Option<AffinityKey<A>>);

/// Adds the steps from the frontend to the selection, as far as the packet gets.
fn decision<F: Net>(
    answer: &mut Answer,
    pins: &Pins,
    dry: &mut DryRun,
    ask: AskWanted<'_>,
    request: &Request,
    (key, found, is_pod, client): Facts<'_, F::Addr>,
) -> anyhow::Result<()> {
    let (Some(of_scope @ (_, frontend)), Some(client)) = (&found.frontend, client) else {
        let drops = dry.config.drops_unknown_ports != 0;
        let is_unallocated = dry.config.service_cidrs != 0
            && lookup::is_listed::<F>(&dry.live, PrefixList::SERVICE_CIDRS, key.dst);
        found::none(answer, found, drops, is_unallocated);
        return Ok(());
    };
    let wanted = found::frontend(answer, ask, request, of_scope);
    if frontend.flags.has(FrontendFlags::SOURCE_RANGES) {
        let sources = PrefixList::sources_of(frontend.service);
        let has_client = lookup::is_listed::<F>(&dry.live, sources, key.src);
        found::source_ranges(answer, wanted.as_ref(), "the client", has_client);
        if !has_client {
            return Ok(());
        }
    }
    let candidates: Candidates =
        backends::candidates::<F>(answer, &mut dry.live, frontend, is_pod, wanted.as_ref())?;
    if candidates.list.is_empty() {
        return Ok(());
    }
    if backends::affinity::<F>(answer, pins, frontend, &client, &candidates)?.is_none() {
        let has_port = request.has_port;
        backends::selection::<F>(answer, &mut dry.live, frontend, key, &candidates, has_port)?;
    }
    Ok(())
}

/// Sets the verdict by the dry run.
fn judge<A: Encode>(answer: &mut Answer, found: &Found, ran: &DryRunResult<A>, frame: &[u8]) {
    let is_refusal = |counter: &&Counter| {
        [Counter::RejectNoEndpoint, Counter::RejectUnknownPort, Counter::RejectTooBig, Counter::RejectTtl]
            .contains(counter)
    };
    let refused = ran.counted.iter().find(is_refusal);
    let dropped = ran.counted.iter().find(|counter| counter.label().starts_with("drop_"));
    (answer.verdict, answer.reason) = match ran.action {
        Action::Drop => (Verdict::Dropped, dropped.map(|counter| counter.label())),
        Action::Redirect if refused.is_some() => (Verdict::Refused, refused.map(|counter| counter.label())),
        Action::Redirect => (Verdict::Forwarded, None),
        Action::Pass if ran.packet != frame => (Verdict::Forwarded, None),
        Action::Pass => (Verdict::NoService, None),
    };
    match answer.verdict {
        Verdict::Refused => {
            let text = "ICMP port unreachable to the client, back out of the same interface";
            answer.step("leaves", &["SEM-091", "SEM-092"], text);
        }
        Verdict::Dropped => {
            answer.step("leaves", &["SEM-094"], "it does not: a dropped packet has no answer")
        }
        Verdict::NoService if found.frontend.is_some() => {
            let text = "the stack gets the packet as it is: a reply, or one that another hook translates";
            answer.step("leaves", &["SEM-088"], text);
        }
        Verdict::NoService => answer.step("leaves", &["SEM-088"], "the stack gets the packet as it is"),
        Verdict::Forwarded => {}
    }
    if answer.verdict == Verdict::Forwarded
        && let Some(record) = ran.record
    {
        answer.backend = Some((record.dst.to_ip(), record.dport.number()).into());
        let source = ran.second.map_or((record.src, record.sport), |(_, second)| (second.src, second.sport));
        answer.source = Some((source.0.to_ip(), source.1.number()).into());
    }
}
