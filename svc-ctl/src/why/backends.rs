//! The backends of a frontend: candidates, session affinity, selection.

use std::net::SocketAddr;

use svc_common::abi::*;
use svc_common::datapath::choose::{chooses_local, has_table};

use super::explanation::{Explanation, Step};
use crate::dataplane::dry_run::Net;
use crate::dataplane::lookup::{self, Member};
use crate::dataplane::maps::Maps;
use crate::dataplane::pins::Pins;
use crate::observe::wanted::{Membership, Wanted, WantedEndpoint};
use crate::plan::render::locality_text;

/// Backends that are named; of others only their number.
const NAMED: usize = 8;

/// Candidates of a new flow.
pub struct Candidates {
    pub list: Vec<Member>,
    /// They come from the list for policy Local.
    pub is_local: bool,
}

/// Location of a backend, in words.
pub const fn place(locality: Locality) -> &'static str {
    match locality {
        Locality::LOCAL => "a pod of this node",
        Locality::HOST => "an address of this node itself",
        _ => "on another node or outside the cluster",
    }
}

/// The pod and the node of a backend, in words.
pub fn pod_of(endpoints: &[WantedEndpoint], backend: SocketAddr) -> String {
    let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.address == backend) else {
        let because =
            if endpoints.is_empty() { "the daemon has not named it" } else { "no EndpointSlice has it" };
        return format!("pod unknown ({because})");
    };
    let node = endpoint.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
    match &endpoint.pod {
        Some(pod) => format!("pod {pod}{node}"),
        None => format!("pod unknown (its EndpointSlice names none){node}"),
    }
}

/// Adds the steps of policy and candidates. `is_inside`: the client is a local pod or the node itself.
pub fn candidates<F: Net>(
    explanation: &mut Explanation,
    maps: &mut Maps,
    frontend: &FrontendValue,
    is_inside: bool,
    wanted: Option<&Wanted>,
) -> anyhow::Result<Candidates> {
    let flags = frontend.flags;
    let is_local_only = flags.has(FrontendFlags::LOCAL_ONLY);
    if is_local_only {
        match is_inside {
            true => explanation.step(
                "policy",
                &["SEM-098", "SEM-104"],
                "externalTrafficPolicy Local; a client of this node chooses from the cluster's backends all the same",
            ),
            false => explanation.step(
                "policy",
                &["SEM-094"],
                "externalTrafficPolicy Local; a client from outside chooses from the backends of this node",
            ),
        }
    }
    let is_internal = !flags.has(FrontendFlags::EXTERNAL);
    if is_internal && wanted.is_some_and(|wanted| wanted.internal_local) {
        explanation.step(
            "policy",
            &["SEM-061"],
            "internalTrafficPolicy Local; clients choose from the backends of this node",
        );
    }
    let is_local = chooses_local(flags, is_inside);
    let extent = if is_local { frontend.local } else { frontend.cluster };
    let list = lookup::members::<F>(maps, extent)?;
    let mut text = match list.len() {
        0 => "none".to_owned(),
        1 => "1: ".to_owned(),
        count => format!("{count}: "),
    };
    let named = list.iter().take(NAMED);
    let named: Vec<String> =
        named.map(|m| format!("{} ({})", m.address, locality_text(m.locality))).collect();
    text.push_str(&named.join(", "));
    if list.len() > NAMED {
        text.push_str(&format!(" and {} more", list.len() - NAMED));
    }
    if list.is_empty() {
        match flags.has(FrontendFlags::USABLE_ELSEWHERE) {
            true => text.push_str(" here, though another list has usable ones: dropped"),
            false => text.push_str(" in the whole cluster: refused"),
        }
        explanation.step("backends", &["SEM-065"], text);
    } else {
        explanation.step("backends", &[], text);
    }
    // A frontend of an internal policy Local has the local list in the place of the other.
    let is_local_list = is_local || (is_internal && wanted.is_some_and(|wanted| wanted.internal_local));
    let mut left_out = wanted
        .iter()
        .flat_map(|wanted| &wanted.endpoints)
        .filter(|endpoint| !list.iter().any(|member| member.address == endpoint.address))
        .map(|endpoint| left_out(endpoint, is_local_list));
    explanation.steps.extend(left_out.by_ref().take(NAMED));
    match left_out.count() {
        0 => {}
        more => explanation.step("left out", &[], format!("and {more} more")),
    }
    Ok(Candidates { list, is_local })
}

/// The step of an endpoint that is no candidate.
fn left_out(endpoint: &WantedEndpoint, is_local_list: bool) -> Step {
    let WantedEndpoint { address, node, pod, cluster, local } = endpoint;
    let pod = pod.as_ref().map_or_else(String::new, |pod| format!(" ({pod})"));
    let node = node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
    let membership = if is_local_list { local } else { cluster };
    let (because, rule) = match membership {
        Some(Membership { is_in: false, because, rule }) => (because.as_str(), rule.as_str()),
        // The daemon has not written it yet, or could not.
        _ => ("wanted, but not in the kernel's list (`svc-ctl status` shows pending changes)", "SEM-066"),
    };
    Step { step: "left out", text: format!("{address}{pod}{node}: {because}"), rules: vec![rule.to_owned()] }
}

/// Adds the step of session affinity. Returns the backend that the client keeps.
pub fn affinity<F: Net>(
    explanation: &mut Explanation,
    pins: &Pins,
    frontend: &FrontendValue,
    client: &AffinityKey<F::Addr>,
    candidates: &Candidates,
) -> anyhow::Result<Option<Member>> {
    if frontend.affinity == 0 {
        return Ok(None);
    }
    let timeout = frontend.affinity;
    let Some((id, left)) = lookup::affinity::<F>(pins, client)? else {
        let text = format!("ClientIP, {timeout} s; the client has no entry, and this connection makes one");
        explanation.step("affinity", &["SEM-230"], text);
        return Ok(None);
    };
    let kept = candidates.list.iter().find(|member| member.id == id).copied();
    match kept {
        Some(Member { address, .. }) => {
            let text = format!("ClientIP, {timeout} s; the client keeps {address} ({left} s left)");
            explanation.step("affinity", &["SEM-231"], text);
        }
        None => {
            let text = format!(
                "ClientIP, {timeout} s; the client's entry names a backend that is no candidate any more"
            );
            explanation.step("affinity", &["SEM-233"], text);
        }
    }
    Ok(kept)
}

/// Adds the step of a selection without session affinity.
pub fn selection<F: Net>(
    explanation: &mut Explanation,
    maps: &mut Maps,
    frontend: &FrontendValue,
    key: &FlowKey<F::Addr>,
    candidates: &Candidates,
    has_port: bool,
) -> anyhow::Result<()> {
    if !has_table(frontend, candidates.is_local) {
        let text = match candidates.list.len() {
            1 => ONLY.to_owned(),
            count if has_port => {
                format!("by the hash of addresses and ports, each of the {count} with equal weight")
            }
            count => format!(
                "by the hash of addresses and ports, each of the {count} with equal weight; another source port may have \
                 another"
            ),
        };
        explanation.step("selection", &["SEM-067"], text);
        return Ok(());
    }
    let (place, places, index) = lookup::maglev::<F>(maps, frontend.maglev, key)?;
    let chosen = candidates.list.get(index);
    let chosen = chosen.map_or_else(|| format!("index {index}"), |member| member.address.to_string());
    let other = if has_port { "" } else { "; another source port has another place" };
    explanation.step(
        "selection",
        &[],
        format!("place {place} of the {places} of its Maglev table: {chosen}{other}"),
    );
    Ok(())
}

const ONLY: &str = "the only backend";

/// Adds the step of a socket hook's selection.
pub fn random(explanation: &mut Explanation, candidates: &Candidates) {
    let text = match candidates.list.len() {
        1 => ONLY.to_owned(),
        count => format!("at random, each of the {count} with equal weight"),
    };
    explanation.step("selection", &["SEM-067"], text);
}
