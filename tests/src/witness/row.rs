//! One case: a client, a frontend, a protocol and a family, at one step of a group.

use super::frontend::Frontend;
use super::group::Group;
use super::line::Line;
use super::outcome::Outcome;
use super::service::Service;
use super::settings::Settings;
use crate::agent::Via;
use crate::topology::Family;

/// Attempts per endpoint: all of them miss one of three endpoints in one of a million rows.
const TRIES_PER_ENDPOINT: usize = 12;
/// Minimum number of attempts, to notice a wrong server that is selected at random.
const TRIES_AT_LEAST: usize = 12;

#[derive(Clone, Debug)]
pub struct Row {
    /// A sentence, with the rules that it tests.
    pub name: String,
    /// The group's settings.
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
    pub by_default: Option<Outcome>,
    /// The Service, shown with a difference.
    pub definition: String,
}

impl Row {
    /// The sentence about svc with its own settings.
    pub fn name_by_default(&self) -> Option<String> {
        let (name, outcome) = (self.name.split_once(" meets ")?.0, self.by_default.as_ref()?);
        let ids = self.name.rsplit_once(" (").map(|(_, ids)| format!(" ({ids}")).unwrap_or_default();
        Some(format!("by default, {name} meets {outcome}{ids}"))
    }

    /// A line's cases in every protocol and family.
    pub fn of(group: &Group, step: usize, name: &str, service: Option<&Service>, line: &Line) -> Vec<Self> {
        let endpoints = service.map_or(0, |service| service.endpoints.len());
        let all = line.vias.iter().flat_map(|via| line.families.iter().map(|family| (*via, *family)));
        all.map(|(via, family)| Self {
            name: sentence(group, step, name, line, via, family),
            settings: group.settings,
            step,
            client: line.client.clone(),
            service: object_name(&group.name, name),
            definition: format!("{service:?}"),
            frontends: line.frontends.clone(),
            stays: line.stays,
            via,
            family,
            tries: TRIES_AT_LEAST.max(TRIES_PER_ENDPOINT * endpoints),
            expected: line.expected.clone(),
            by_default: if group.settings.has_defaults() { line.by_default.clone() } else { None },
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
    let meets = match &line.expected {
        Some(outcome) => format!("meets {outcome}, as"),
        None => "fares as".to_owned(),
    };
    let ids = if line.ids.is_empty() { String::new() } else { format!(" ({})", line.ids.join(", ")) };
    format!(
        "{name}{step}: {client} {does} {frontends} of {service} over {protocol} {family} {meets} with kube-proxy{ids}"
    )
}
