//! One row of the two tables: a client, a frontend, a protocol and a family, at one step of a group.

use super::frontend::Frontend;
use super::group::Group;
use super::line::Line;
use super::outcome::Outcome;
use super::settings::Settings;
use crate::agent::Via;
use crate::topology::Family;

/// So many tries for each endpoint: one of three is missed by all of them once in a million rows.
const TRIES_PER_ENDPOINT: usize = 12;
/// A wrong server that is met by chance is met among so many.
const TRIES_AT_LEAST: usize = 12;

#[derive(Clone, Debug)]
pub struct Row {
    /// A sentence, and the rules it is about.
    pub name: String,
    /// Of the group.
    pub settings: Settings,
    pub step: usize,
    pub client: String,
    /// The Service's name in the API server.
    pub service: String,
    pub frontends: Vec<Frontend>,
    pub stays: bool,
    pub via: Via,
    pub family: Family,
    pub tries: usize,
    pub expected: Option<Outcome>,
}

impl Row {
    /// A line in every protocol and family that it is meant for.
    pub fn of(group: &Group, step: usize, service: &str, endpoints: usize, line: &Line) -> Vec<Self> {
        let all = line.vias.iter().flat_map(|via| line.families.iter().map(|family| (*via, *family)));
        all.map(|(via, family)| Self {
            name: sentence(group, step, service, line, via, family),
            settings: group.settings,
            step,
            client: line.client.clone(),
            service: object_name(&group.name, service),
            frontends: line.frontends.clone(),
            stays: line.stays,
            via,
            family,
            tries: TRIES_AT_LEAST.max(TRIES_PER_ENDPOINT * endpoints),
            expected: line.expected.clone(),
        })
        .collect()
    }
}

/// Groups share a namespace.
pub fn object_name(group: &str, service: &str) -> String {
    format!("{group}-{service}")
}

fn sentence(group: &Group, step: usize, service: &str, line: &Line, via: Via, family: Family) -> String {
    let protocol = if via == Via::Tcp { "TCP" } else { "UDP" };
    let frontends: Vec<_> = line.frontends.iter().map(ToString::to_string).collect();
    let (name, client, frontends) = (&group.name, &line.client, frontends.join(" and "));
    let step = if group.steps.len() > 1 { format!(" step {}", step + 1) } else { String::new() };
    let does = if line.stays { "stays at" } else { "at" };
    let meets = line
        .expected
        .as_ref()
        .map_or_else(|| "whatever it meets".to_owned(), |outcome| format!("meets {outcome}"));
    let ids = if line.ids.is_empty() { String::new() } else { format!(" ({})", line.ids.join(", ")) };
    format!(
        "{name}{step}: {client} {does} {frontends} of {service} over {protocol} {family} {meets}, as with kube-proxy{ids}"
    )
}
