//! The metrics of kube-proxy and of svc, name by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use svc_tests::run_name::workspace_dir;

/// Page with the reasons why svc lacks some of kube-proxy's metrics.
const DOCS: &str = "docs/metrics.md";
const REASONS: &str = "## kube-proxy's metrics that svc lacks";
/// Prefixes of names that svc may use only for kube-proxy's own metrics.
const SHARED: [&str; 4] = ["kubeproxy_", "kubernetes_", "process_", "rest_client_"];
/// Metrics that have no series on a healthy node in nftables mode: of other modes, of failures, of requests sent again.
const NOT_SEEN: [&str; 4] = [
    "kubeproxy_sync_proxy_rules_iptables_",
    "kubeproxy_iptables_",
    "kubeproxy_sync_proxy_rules_nftables_",
    "rest_client_request_retries_total",
];
/// The tests' kube-proxy is in one program with all components, and each registers its metrics there.
const OF_OTHERS: [&str; 5] = ["aggregator_", "apiextensions_", "apiserver_", "kubelet_", "node_collector_"];

/// A metric, whatever its values are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Family {
    pub kind: String,
    /// Empty if it has no series yet.
    pub labels: BTreeSet<String>,
    bounds: Vec<String>,
    series: usize,
}

impl Family {
    /// Labels and classes of a metric without series are not known.
    fn equals(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.series == 0
                || other.series == 0
                || (&self.labels, &self.bounds) == (&other.labels, &other.bounds))
    }
}

/// A metric of kube-proxy's.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub theirs: Family,
    /// The reason where svc has no such metric.
    pub left_out: Option<String>,
}

/// Metrics of a page by name.
fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            name.clone_into(&mut current);
            families.insert(current.clone(), Family { kind: kind.to_owned(), ..Family::default() });
        }
        let Some(family) = families.get_mut(&current).filter(|_| !line.starts_with('#')) else { continue };
        family.series += 1;
        let Some((_, labels)) = line.split_once('{') else { continue };
        for (name, value) in labels.split("\",").filter_map(|label| label.split_once("=\"")) {
            let value = value.split('"').next().unwrap_or_default().to_owned();
            match name {
                "le" if family.bounds.contains(&value) => {}
                "le" => family.bounds.push(value),
                name => drop(family.labels.insert(name.to_owned())),
            }
        }
    }
    families
}

/// The names, or their beginnings, that svc leaves out, and why.
fn reasons() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(workspace_dir().join(DOCS)).context(DOCS)?;
    let (_, table) =
        text.split_once(REASONS).with_context(|| format!("{DOCS} has no section {REASONS:?}"))?;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    Ok(rows.map(|(name, why)| (name.to_owned(), why.trim_end_matches(" |").to_owned())).collect())
}

fn names(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

/// Compares both pages. Fails if svc lacks a metric without a reason, has one of another shape, or has a reason too
/// many.
pub fn compare(theirs: &str, ours: &str) -> Result<Vec<Row>> {
    let (mut theirs, ours, reasons) = (families(theirs), families(ours), reasons()?);
    theirs.retain(|name, _| !OF_OTHERS.iter().any(|beginning| name.starts_with(beginning)));
    ensure!(theirs.len() > 30, "kube-proxy has only {} metrics", theirs.len());
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for (name, family) in &theirs {
        let reason = reasons.iter().find(|(pattern, _)| names(pattern, name)).map(|(_, why)| why.clone());
        match (ours.get(name), &reason) {
            (Some(own), None) if !own.equals(family) => {
                wrong.push(format!("{name} is {own:?}, and {family:?} in kube-proxy"));
            }
            (Some(_), Some(_)) => wrong.push(format!("{name} is there, and {DOCS} says that it is not")),
            (None, None) => wrong.push(format!("{name} is missing, and {DOCS} has no reason")),
            (Some(_), None) | (None, Some(_)) => {}
        }
        rows.push(Row { name: name.clone(), theirs: family.clone(), left_out: reason });
    }
    let is_shared = |name: &&String| SHARED.iter().any(|beginning| name.starts_with(beginning));
    let invented = ours.keys().filter(is_shared).filter(|name| !theirs.contains_key(*name));
    wrong.extend(invented.map(|name| format!("kube-proxy has no {name}")));
    let may_be_idle = |pattern: &str| NOT_SEEN.iter().any(|known| pattern.starts_with(known));
    let idle = reasons
        .iter()
        .filter(|(pattern, _)| !may_be_idle(pattern) && !theirs.keys().any(|name| names(pattern, name)));
    wrong.extend(idle.map(|(pattern, _)| format!("kube-proxy has no {pattern}, which {DOCS} explains")));
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(rows)
}
