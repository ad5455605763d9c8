//! A group of cases: Services, results of clients, then other Services of the same names. One YAML file per group.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::line::Line;
use super::row::{Row, object_name};
use super::service::Service;
use super::settings::Settings;
use crate::agent::Via;
use crate::topology::Family;

/// Attempts per endpoint: all of them miss one of three endpoints in one of a million rows.
const TRIES_PER_ENDPOINT: usize = 12;
/// Minimum number of attempts. A fault that shows in one request of five is missed by one row of a hundred.
const TRIES_AT_LEAST: usize = 20;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The file's name.
    #[serde(skip)]
    pub name: String,
    /// Description for readers of the file and the page.
    pub about: String,
    /// Settings of both proxies.
    #[serde(default)]
    pub settings: Settings,
    pub steps: Vec<Step>,
}

/// The Services from now on, and the results of clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unnamed Services stay as they are; null deletes a Service.
    #[serde(default)]
    pub services: BTreeMap<String, Option<Service>>,
    /// Rows by their Service.
    #[serde(default)]
    pub rows: BTreeMap<String, Vec<Line>>,
}

impl Group {
    /// Every file of a folder, in order.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|kind| kind == "yaml"));
        paths.sort();
        paths.iter().map(|path| Self::load(path).with_context(|| path.display().to_string())).collect()
    }

    fn load(path: &Path) -> Result<Self> {
        let mut group: Self = serde_yaml_ng::from_str(&fs::read_to_string(path)?)?;
        group.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(group)
    }

    /// Every row of every step.
    pub fn rows(&self) -> Vec<Row> {
        let mut now: BTreeMap<&String, &Service> = BTreeMap::new();
        let mut rows = Vec::new();
        for (step, content) in self.steps.iter().enumerate() {
            for (name, service) in &content.services {
                match service {
                    Some(service) => now.insert(name, service),
                    None => now.remove(name),
                };
            }
            for (service, lines) in &content.rows {
                let now = now.get(service).copied();
                rows.extend(lines.iter().flat_map(|line| self.rows_of(step, service, now, line)));
            }
        }
        rows
    }

    /// A line's cases in every protocol and family.
    fn rows_of(&self, step: usize, name: &str, service: Option<&Service>, line: &Line) -> Vec<Row> {
        let endpoints = service.map_or(0, |service| service.endpoints.len());
        let all = line.vias.iter().flat_map(|via| line.families.iter().map(|family| (*via, *family)));
        all.map(|(via, family)| Row {
            name: sentence(self, step, name, line, via, family),
            settings: self.settings,
            step,
            client: line.client.clone(),
            service: object_name(&self.name, name),
            definition: format!("{service:?}"),
            frontends: line.frontends.clone(),
            stays: line.stays,
            via,
            family,
            tries: TRIES_AT_LEAST.max(TRIES_PER_ENDPOINT * endpoints),
            expected: line.expected.clone(),
            by_default: if self.settings.has_defaults() { line.by_default.clone() } else { None },
        })
        .collect()
    }
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
