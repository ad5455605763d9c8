//! One case: a client, a frontend, a protocol and a family, at one step of a group.

use super::frontend::Frontend;
use super::outcome::RowOutcome;
use super::settings::Settings;
use crate::agent::Via;
use crate::topology::Family;

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
    pub expected: Option<RowOutcome>,
    pub by_default: Option<RowOutcome>,
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
}

/// Groups share a namespace.
pub fn object_name(group: &str, service: &str) -> String {
    format!("{group}-{service}")
}
