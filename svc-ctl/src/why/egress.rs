//! A packet of a live flow that is translated when it leaves: the dry run is one of the program at egress.

use std::net::SocketAddr;

use svc_common::abi::*;
use svc_common::addr::Proto;

use super::explanation::{Explanation, Verdict};
use super::flow::{can_be_reused, key, record_step};
use super::origin::{self, Interface, name_of};
use super::outcome::{build_step, end_step, ends, judge};
use super::request::Request;
use super::{AskWanted, octets};
use crate::dataplane::dry_run::{Action, DryRun, Net, live_flows};
use crate::dataplane::hooks::TcHook;
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::Pins;
use crate::dataplane::reach::{RoutedPacket, route_of};

/// Answers for a packet that this node itself sends, if a live flow has its tuple.
pub fn of_node<F: Net>(
    pins: &Pins,
    maps: &Maps,
    ask: AskWanted<'_>,
    request: &Request,
    client: SocketAddr,
) -> anyhow::Result<Option<Explanation>> {
    let key = key::<F>(client, request)?;
    // A server of the node may answer from another of its addresses.
    let wildcard = FlowKey { src: F::Addr::default(), ..key };
    let flows = live_flows::<F>(pins)?;
    let record = match flows.get(&key)? {
        None if key.proto == Proto::UDP => flows.get(&wildcard)?,
        found => found,
    };
    let is_due = |record: &FlowRecord<F::Addr>| record.hook != Hook::INGRESS && !can_be_reused(&key, record);
    let Some(record) = record.filter(is_due) else { return Ok(None) };
    let mut explanation = Explanation::new(request.to_string());
    explanation.step(
        "socket",
        &[],
        "this node itself sends the packet, on a connection that a Service translates",
    );
    record_step(&mut explanation, ask, &key, &record);
    explain::<F>(explanation, pins, maps, &key, &record, None).map(Some)
}

/// Adds the steps from the route on. `from`: the interface by which the packet came; `None`: this node sends it.
pub fn explain<F: Net>(
    mut explanation: Explanation,
    pins: &Pins,
    maps: &Maps,
    key: &FlowKey<F::Addr>,
    record: &FlowRecord<F::Addr>,
    from: Option<&Interface>,
) -> anyhow::Result<Explanation> {
    let [source, destination] = ends(key);
    let iif = from.map(Interface::routed_by);
    let untranslated = match route_of(&RoutedPacket { from: source, to: destination, proto: key.proto, iif })
    {
        Ok(route) if route.is_local => "the stack gets the packet as it is, for this node itself".to_owned(),
        Ok(route) => match origin::exit_towards(maps, route.oif, destination.ip())? {
            Some(exit) => return at_exit::<F>(explanation, pins, key, record, &exit),
            None => format!(
                "the stack routes the packet out of {}, where it passes no program of svc",
                name_of(route.oif)
            ),
        },
        Err(error) => format!("the stack gets the packet as it is and does not route it ({error})"),
    };
    explanation.step("leaves", &["SEM-088"], untranslated);
    Ok(explanation)
}

/// Adds the steps at egress of an interface.
fn at_exit<F: Net>(
    mut explanation: Explanation,
    pins: &Pins,
    key: &FlowKey<F::Addr>,
    record: &FlowRecord<F::Addr>,
    exit: &Interface,
) -> anyhow::Result<Explanation> {
    let program = if exit.entry.role == Role::POD { "pod_egress" } else { "uplink_egress" };
    let dry = DryRun::of(pins, program, TcHook::Egress, exit.index)?;
    build_step(&mut explanation, &dry, &exit.name, program);
    let frame = octets::frame::<F>(key, exit.entry.mac, false);
    let ran = dry.run::<F>(&frame, exit.index, key, None)?;
    judge::<F>(&mut explanation, &ran, &frame, key, Some(record));
    match (explanation.verdict, explanation.source, explanation.destination) {
        (Verdict::Forwarded, Some(source), Some(destination)) => {
            let by_source = match ran.action {
                Action::Redirect => format!(", and redirected out of {}", name_of(record.oif)),
                _ => String::new(),
            };
            let text = format!(
                "{source} > {destination}, translated at egress of {} ({}){by_source}",
                exit.name, exit.because
            );
            explanation.step("leaves", &["SEM-079"], text);
        }
        (Verdict::NoService, ..) => {
            let text = format!(
                "out of {} ({}) as it is: the record is one of another hook",
                exit.name, exit.because
            );
            explanation.step("leaves", &["SEM-088"], text);
        }
        _ => end_step::<F>(&mut explanation, &ran),
    }
    Ok(explanation)
}
