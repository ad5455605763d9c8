//! Deliberate differences between svc and kube-proxy: the rows, svc's result, the reason.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::outcome::RowOutcome;
use super::row::Row;

/// The hand-written list.
#[derive(Debug)]
pub struct Deviations(pub Vec<Deviation>);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// The row's name contains all of these texts.
    pub rows: Vec<String>,
    /// The row's name contains none of these.
    #[serde(default)]
    pub but: Vec<String>,
    /// The client's result with svc.
    pub svc: String,
    pub why: String,
}

impl Deviations {
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(Self(serde_yaml_ng::from_str(text)?))
    }

    /// The first deviation that applies to a row.
    pub fn of(&self, row: &Row) -> Option<&Deviation> {
        self.0.iter().find(|deviation| deviation.is_about(&row.name))
    }

    /// Deviations that apply to no row.
    pub fn idle(&self, rows: &[Row]) -> Vec<String> {
        let is_idle = |deviation: &&Deviation| !rows.iter().any(|row| deviation.is_about(&row.name));
        self.0
            .iter()
            .filter(is_idle)
            .map(|deviation| format!("{:?}: {}", deviation.rows, deviation.why))
            .collect()
    }
}

impl Deviation {
    pub fn is_about(&self, row: &str) -> bool {
        self.rows.iter().all(|text| row.contains(text)) && !self.but.iter().any(|text| row.contains(text))
    }

    pub fn outcome(&self) -> Result<RowOutcome> {
        self.svc.parse().map_err(anyhow::Error::msg).with_context(|| format!("deviation {:?}", self.rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deviation_is_about_rows_with_all_of_its_texts_and_none_of_the_others() {
        let text = "- {rows: [pod, UDP], but: [IPv6], svc: refused, why: so}";
        let deviations = Deviations::parse(text).unwrap();
        let is_about = |row: &str| deviations.0[0].is_about(row);
        assert!(
            is_about("pod over UDP IPv4") && !is_about("pod over TCP IPv4") && !is_about("pod over UDP IPv6")
        );
        assert_eq!(deviations.0[0].outcome().unwrap().to_string(), "refused");
        assert!(Deviations::parse("- {rows: [pod], svc: refused}").is_err());
    }
}
