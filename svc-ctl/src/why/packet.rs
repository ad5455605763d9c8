//! A packet that comes by an interface: the dry run decides, the tables explain.

use std::net::SocketAddr;

use svc_common::abi::*;
use svc_common::addr::Proto;
use svc_common::datapath::choose::{is_backend_left_to_packets, is_left_to_packets};

use super::backends::{self, Candidates};
use super::explanation::{Explanation, Verdict};
use super::origin::Interface;
use super::request::Request;
use super::{AskWanted, egress, flow, found, leaving, octets, outcome, socket};
use crate::dataplane::dry_run::{DryRun, Net};
use crate::dataplane::hooks::TcHook;
use crate::dataplane::lookup::{self, Found};
use crate::dataplane::pins::Pins;

/// Answers for a packet that comes by this interface.
pub fn explain<F: Net>(
    pins: &Pins,
    ask: AskWanted<'_>,
    request: &Request,
    client: SocketAddr,
    interface: &Interface,
) -> anyhow::Result<Explanation> {
    let key = flow::key::<F>(client, request)?;
    let role = interface.entry.role;
    // A tunnel's program differs from an uplink's only in the frame's header.
    let program = if role == Role::POD { "pod_ingress" } else { "uplink_ingress" };
    let mut dry = DryRun::of(pins, program, TcHook::Ingress, interface.index)?;
    let record = dry.record::<F>(&key)?.filter(|record| !flow::can_be_reused(&key, record));
    let found = lookup::frontend::<F>(&dry.live, (key.dst, key.dport), key.proto, false);
    let is_pod = is_local_pod::<F>(&dry, interface, key.src);
    let mut explanation = Explanation::new(request.to_string());
    outcome::build_step(&mut explanation, &dry, &interface.name, program);
    interface_step(&mut explanation, &dry.config, interface, is_pod);
    if let Some(of_scope) = &found.frontend
        && record.is_none()
        && is_pod
        && is_for_sockets::<F>(&mut dry, &of_scope.1, key.proto)?
    {
        return socket::of_pod::<F>(explanation, pins, &mut dry.live, ask, request, of_scope);
    }
    let service = found.frontend.map(|(_, frontend)| frontend.service);
    let affinity = service.map(|service| AffinityKey { service, netns: [0; 2], addr: key.src });
    let frame = octets::frame::<F>(&key, interface.entry.mac, record.is_none());
    let ran = dry.run::<F>(&frame, interface.index, &key, affinity)?;
    match &record {
        Some(record) => flow::record_step(&mut explanation, ask, &key, record),
        None => explanation.step("flow", &[], "no record: the packet would begin a flow"),
    }
    if let Some(record) = record.filter(|record| record.hook != Hook::INGRESS && ran.passes(&frame)) {
        let maps = dry.into_live();
        return egress::explain::<F>(explanation, pins, &maps, &key, &record, Some(interface));
    }
    // A record of another hook does not keep a packet from a Service.
    let decides = record.filter(|record| record.hook == Hook::INGRESS);
    if decides.is_none() {
        let facts = Facts { key: &key, found: &found, role, is_pod, client: affinity };
        decision::<F>(&mut explanation, pins, &mut dry, ask, request, &facts)?;
    }
    outcome::judge::<F>(&mut explanation, &ran, &frame, &key, decides.as_ref());
    match explanation.verdict {
        Verdict::Forwarded => {
            let frontend = found.frontend.map(|(_, frontend)| frontend).filter(|_| decides.is_none());
            let leaving = leaving::Leaving { pins, interface, key: &key, ran: &ran, frontend, is_pod };
            leaving.steps::<F>(&mut explanation, &mut dry);
        }
        Verdict::NoService if found.frontend.is_some() => {
            let text = "the stack gets the packet as it is: the program takes it for the reply to a connection of the node";
            explanation.step("leaves", &["SEM-088"], text);
        }
        _ => outcome::end_step::<F>(&mut explanation, &ran),
    }
    Ok(explanation)
}

/// A socket of a pod that dials this frontend is connected to a backend before there is a packet.
fn is_for_sockets<F: Net>(dry: &mut DryRun, frontend: &FrontendValue, proto: Proto) -> anyhow::Result<bool> {
    if proto == Proto::SCTP || is_left_to_packets(frontend.flags) || !dry.serves_pod_sockets() {
        return Ok(false);
    }
    let members = lookup::members::<F>(&mut dry.live, frontend.cluster)?;
    Ok(members.iter().all(|member| !is_backend_left_to_packets(proto, member.locality)))
}

fn is_local_pod<F: Net>(dry: &DryRun, interface: &Interface, client: F::Addr) -> bool {
    match dry.config.pods_by_source {
        0 => interface.entry.flags.has(IfaceFlags::LOCAL_PODS),
        _ => lookup::is_listed::<F>(&dry.live, PrefixList::LOCAL_PODS, client),
    }
}

fn interface_step(explanation: &mut Explanation, config: &Config, interface: &Interface, is_pod: bool) {
    let Interface { name, entry, because, .. } = interface;
    let role = if entry.role == Role::POD { "a pod interface" } else { "an uplink" };
    let by = if config.pods_by_source != 0 { "source address" } else { "interface" };
    let client = match is_pod {
        true => format!("a local pod, by its {by}"),
        false => format!("no local pod, by its {by}"),
    };
    explanation.step(
        "interface",
        &["SEM-090"],
        format!("{name}, {role} ({because}); the client is {client}"),
    );
}

/// Facts of a packet without record.
struct Facts<'a, A> {
    key: &'a FlowKey<A>,
    found: &'a Found,
    /// Of the interface by which it comes.
    role: Role,
    is_pod: bool,
    client: Option<AffinityKey<A>>,
}

/// Adds the steps from the frontend to the selection, as far as the packet gets.
fn decision<F: Net>(
    explanation: &mut Explanation,
    pins: &Pins,
    dry: &mut DryRun,
    ask: AskWanted<'_>,
    request: &Request,
    facts: &Facts<'_, F::Addr>,
) -> anyhow::Result<()> {
    let Facts { key, found, role, is_pod, client } = *facts;
    let (Some(of_scope @ (_, frontend)), Some(client)) = (&found.frontend, client) else {
        found::none::<F>(explanation, &dry.live, (&dry.config, role), found, key.dst);
        return Ok(());
    };
    let wanted = found::frontend(explanation, ask, request, of_scope);
    if frontend.flags.has(FrontendFlags::SOURCE_RANGES) {
        let sources = PrefixList::sources_of(frontend.service);
        let has_client = lookup::is_listed::<F>(&dry.live, sources, key.src);
        found::source_ranges(explanation, wanted.as_ref(), "the client", has_client);
        if !has_client {
            return Ok(());
        }
    }
    let candidates: Candidates =
        backends::candidates::<F>(explanation, &mut dry.live, frontend, is_pod, wanted.as_ref())?;
    if candidates.list.is_empty() {
        return Ok(());
    }
    if backends::affinity::<F>(explanation, pins, frontend, &client, &candidates)?.is_none() {
        let has_port = request.has_port;
        backends::selection::<F>(explanation, &mut dry.live, frontend, key, &candidates, has_port)?;
    }
    Ok(())
}
