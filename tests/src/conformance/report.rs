//! Reads the result of each spec from ginkgo's JSON report.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Result of one spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpecOutcome {
    Passed,
    /// With the first line of the reason.
    Failed(String),
    /// The spec found that it cannot run here, with the reason.
    Skipped(String),
    /// Excluded by the selection of specs.
    NotRun,
}

/// SpecOutcomes by the full text of a spec.
pub type SpecOutcomes = BTreeMap<String, SpecOutcome>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
}

/// The specs of a report that belong to sig-network.
pub fn parse(text: &str) -> Result<SpecOutcomes> {
    let suites: Vec<Suite> = serde_json::from_str(text).context("ginkgo's report")?;
    let specs = suites.into_iter().flat_map(|suite| suite.spec_reports);
    let ours = specs.filter(|spec| spec.leaf_node_type == "It").map(|spec| (spec.name(), spec.outcome()));
    Ok(ours.filter(|(name, _)| name.starts_with("[sig-network]")).collect())
}

impl Spec {
    fn name(&self) -> String {
        let containers = self.container_hierarchy_texts.iter().flatten().map(String::as_str);
        containers.chain([self.leaf_node_text.as_str()]).collect::<Vec<_>>().join(" ")
    }

    fn outcome(&self) -> SpecOutcome {
        let message = self.failure.as_ref().map_or("", |failure| &failure.message);
        let line = message.lines().next().unwrap_or_default();
        match self.state.as_str() {
            "passed" => SpecOutcome::Passed,
            "skipped" | "pending" if line.is_empty() => SpecOutcome::NotRun,
            "skipped" => SpecOutcome::Skipped(line.trim_start_matches("skipped - ").into()),
            state if line.is_empty() => SpecOutcome::Failed(state.into()),
            _ => SpecOutcome::Failed(line.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_named_by_all_its_texts_and_judged_by_its_state() {
        let text = r#"[{"SpecReports": [
            {"ContainerHierarchyTexts": null, "LeafNodeType": "BeforeSuite", "LeafNodeText": "", "State": "passed"},
            {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "run", "State": "passed"},
            {"ContainerHierarchyTexts": ["[sig-network] DNS"], "LeafNodeType": "It", "LeafNodeText": "a", "State": "passed"},
            {"ContainerHierarchyTexts": ["[sig-network] DNS"], "LeafNodeType": "It", "LeafNodeText": "b", "State": "skipped"},
            {"ContainerHierarchyTexts": ["[sig-network] DNS"], "LeafNodeType": "It", "LeafNodeText": "c", "State": "skipped",
             "Failure": {"Message": "skipped - Requires >= 3 zones\nmore"}},
            {"ContainerHierarchyTexts": ["[sig-network] DNS"], "LeafNodeType": "It", "LeafNodeText": "d", "State": "failed",
             "Failure": {"Message": "timed out\nmore"}},
            {"ContainerHierarchyTexts": ["[sig-network] DNS"], "LeafNodeType": "It", "LeafNodeText": "e", "State": "interrupted"}
        ]}]"#;
        let outcomes: Vec<_> = parse(text).unwrap().into_iter().collect();
        let dns = |leaf: &str, outcome| (format!("[sig-network] DNS {leaf}"), outcome);
        assert_eq!(
            outcomes,
            [
                dns("a", SpecOutcome::Passed),
                dns("b", SpecOutcome::NotRun),
                dns("c", SpecOutcome::Skipped("Requires >= 3 zones".into())),
                dns("d", SpecOutcome::Failed("timed out".into())),
                dns("e", SpecOutcome::Failed("interrupted".into())),
            ]
        );
    }
}
