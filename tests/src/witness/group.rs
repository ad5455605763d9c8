//! A group of cases: Services, results of clients, then other Services of the same names. One YAML file per group.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::line::Line;
use super::row::Row;
use super::service::Service;
use super::settings::Settings;

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
                rows.extend(lines.iter().flat_map(|line| Row::of(self, step, service, now, line)));
            }
        }
        rows
    }
}
