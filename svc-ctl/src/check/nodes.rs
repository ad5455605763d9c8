//! The daemons of all nodes, by their answers at `/readyz`.

pub mod ask;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Finding, fail, pass, warn};

/// Nodes that are named for one reason.
const NAMED: usize = 20;
const NAME: &str = "nodes";

/// The nodes and their answers.
#[derive(Clone, Debug, Default)]
pub enum NodeFacts {
    #[default]
    NotAsked,
    /// The nodes cannot be listed, for this reason.
    Unknown(String),
    Asked(Vec<NodeFact>),
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeFact {
    pub name: String,
    pub address: Option<IpAddr>,
    /// The answer, or the reason why there is none.
    pub answer: Result<Readiness, String>,
}

/// The body of `/readyz`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Readiness {
    pub healthy: bool,
    /// Everything is in force.
    pub complete: bool,
    pub last_updated: String,
    /// Missing in the answer of another proxy, or of an earlier svc.
    pub version: Option<String>,
    pub abi: Option<u32>,
}

pub fn findings(facts: &NodeFacts) -> Vec<Finding> {
    let nodes = match facts {
        NodeFacts::NotAsked => return Vec::new(),
        NodeFacts::Unknown(why) => {
            let cure = "see the checks of the API server above; it takes the right to list nodes";
            return vec![fail(NAME, format!("the nodes are not known: {why}"), cure)];
        }
        NodeFacts::Asked(nodes) => nodes,
    };
    let mut broken: Vec<Finding> = nodes.iter().filter_map(problem).collect();
    let serving = nodes.len() - broken.len();
    let found = format!("{serving} of {} serve", nodes.len());
    let mut all = match (broken.len(), nodes.len()) {
        (_, 0) => vec![fail(NAME, "the API server knows no node", "is this the right cluster?")],
        (0, _) => vec![pass(NAME, found)],
        _ => vec![fail(NAME, found, "the lines below name the others")],
    };
    let more = broken.len().saturating_sub(NAMED);
    broken.truncate(NAMED);
    all.extend(broken);
    if more != 0 {
        all.push(fail(NAME, format!("and {more} more"), "the same holds for them"));
    }
    all.extend(versions(nodes));
    all
}

/// The reason why a node does not serve, and the remedy.
fn problem(node: &NodeFact) -> Option<Finding> {
    let name = &node.name;
    let Some(address) = node.address else {
        return Some(fail(NAME, format!("{name} has no InternalIP"), "kubelet sets it: --node-ip"));
    };
    match &node.answer {
        Err(why) => Some(fail(
            NAME,
            format!("{name} ({address}) does not answer: {why}"),
            "is a pod of svc on that node, and does a firewall let its port pass? (--healthz-bind-address)",
        )),
        Ok(ready) if ready.version.is_none() => Some(fail(
            NAME,
            format!("{name} ({address}) answers, and not as svc does"),
            "another service proxy has the port there",
        )),
        Ok(ready) if !ready.healthy => Some(fail(
            NAME,
            format!("{name} ({address}) is late: it was up to date at {}", ready.last_updated),
            "`svc-ctl status` on that node",
        )),
        Ok(ready) if !ready.complete => Some(fail(
            NAME,
            format!("{name} ({address}) has not everything in force yet"),
            "`svc-ctl status` on that node, if it stays so",
        )),
        Ok(_) => None,
    }
}

/// An upgrade that has stopped half way.
fn versions(nodes: &[NodeFact]) -> Option<Finding> {
    let mut known: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        if let Ok(Readiness { version: Some(version), abi, .. }) = &node.answer {
            let abi = abi.map_or_else(String::new, |abi| format!(" (ABI {abi})"));
            known.entry(format!("{version}{abi}")).or_default().push(&node.name);
        }
    }
    let line = |(version, names): (&String, &Vec<&str>)| match names.as_slice() {
        [one] => format!("{version} on {one}"),
        names => format!("{version} on {} nodes", names.len()),
    };
    let text = known.iter().map(line).collect::<Vec<_>>().join(", ");
    match known.len() {
        0 => None,
        1 => Some(pass("versions", text)),
        _ => Some(warn(
            "versions",
            text,
            "finish the upgrade: `kubectl -n kube-system rollout status daemonset/svc`",
        )),
    }
}

#[cfg(test)]
mod tests;
