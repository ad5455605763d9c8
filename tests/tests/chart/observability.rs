//! Alerts and the dashboard: Prometheus' own parser accepts each expression, and svc has all its metrics, labels and
//! values (`docs/metrics.md`, and the page checked by svc-ctl's tests).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::Value;
use svc_tests::cluster::bin_dir;
use svc_tests::command;
use svc_tests::run_name::workspace_dir;

const ALERTS: &str = "deploy/observability/alerts.yaml";
const DASHBOARD: &str = "deploy/observability/dashboard.json";
/// Labels that Prometheus or the chart's PodMonitor gives a target, and the label of histogram buckets.
const OF_TARGET: [&str; 5] = ["cluster", "instance", "job", "le", "node"];
/// Metrics that Prometheus makes for a target.
const OF_PROMETHEUS: [&str; 1] = ["up"];

/// Metrics of svc's own that no panel shows: counts of the daemon's work, for developers.
const NOT_SHOWN: [&str; 3] =
    ["svc_generation", "svc_service_ports_without_series", "svc_services_planned_total"];

/// Contents of an expression.
#[derive(Debug, Deserialize)]
struct Parsed {
    expression: String,
    metrics: Vec<String>,
    labels: Vec<String>,
    matchers: Vec<(String, String)>,
}

pub fn trials() -> Vec<Trial> {
    type Act = fn() -> Result<()>;
    let cases: [(&str, Act); 3] = [
        ("every alert parses and uses existing metrics", alerts),
        ("every panel and variable of the dashboard parses and uses existing metrics", dashboard),
        ("every alert has its paragraph in the runbook and its switch in the chart", runbook),
    ];
    cases.into_iter().map(|(name, act)| Trial::test(name, move || Ok(act()?))).collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(workspace_dir().join(path)).with_context(|| path.to_owned())
}

/// Parses rule files, then expressions.
fn parse(files: &[&str], expressions: &str) -> Result<Vec<Parsed>> {
    let mut promql = Command::new(bin_dir()?.join("promql"));
    let lines = command::feed(promql.current_dir(workspace_dir()).args(files), expressions)?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Name -> labels, from the tables of docs/metrics.md. A histogram has three names.
fn metrics() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut all = BTreeMap::new();
    for line in read("docs/metrics.md")?.lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, _] = cells[..] else { continue };
        let labels: BTreeSet<_> = labels.split(", ").map(|word| word.trim_matches('`').to_owned()).collect();
        let name = name.trim_matches('`');
        match kind.starts_with("histogram") {
            true => {
                all.extend(["bucket", "sum", "count"].map(|end| (format!("{name}_{end}"), labels.clone())))
            }
            false => drop(all.insert(name.to_owned(), labels)),
        }
    }
    ensure!(all.len() > 50, "docs/metrics.md has {} metrics", all.len());
    Ok(all)
}

fn check(parsed: &[Parsed]) -> Result<()> {
    let (known, page) = (metrics()?, read("svc-ctl/tests/metrics/page.txt")?);
    for Parsed { expression, metrics, labels, matchers } in parsed {
        let mut allowed: BTreeSet<_> = OF_TARGET.map(str::to_owned).into();
        for metric in metrics.iter().filter(|metric| !OF_PROMETHEUS.contains(&metric.as_str())) {
            let of_metric =
                known.get(metric).with_context(|| format!("{expression}: svc has no {metric}"))?;
            allowed.extend(of_metric.iter().cloned());
        }
        for label in labels {
            ensure!(allowed.contains(label), "{expression}: no such metric has the label {label}");
        }
        for (label, text) in matchers.iter().filter(|(label, _)| !OF_TARGET.contains(&label.as_str())) {
            for value in text.split('|') {
                let known = page.contains(&format!("{label}=\"{value}\""));
                ensure!(known, "{expression}: {label} is never {value}, by svc-ctl/tests/metrics/page.txt");
            }
        }
    }
    Ok(())
}

fn alerts() -> Result<()> {
    let parsed = parse(&[ALERTS], "")?;
    ensure!(parsed.len() == alert_names()?.len(), "{} expressions", parsed.len());
    check(&parsed)
}

fn alert_names() -> Result<BTreeSet<String>> {
    let rules: Value = serde_yaml_ng::from_str(&read(ALERTS)?).context(ALERTS)?;
    let groups = rules["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    Ok(rules.filter_map(|rule| rule["alert"].as_str()).map(str::to_owned).collect())
}

fn dashboard() -> Result<()> {
    let board: Value = serde_json::from_str(&read(DASHBOARD)?).context(DASHBOARD)?;
    let panels = board["panels"].as_array().context("no panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut expressions: Vec<_> =
        targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect();
    let of_panels = expressions.len();
    ensure!(of_panels > 40, "{of_panels} expressions");
    // `label_values(metric, label)`
    for variable in board["templating"]["list"].as_array().into_iter().flatten() {
        let Some(query) = variable["definition"].as_str() else { continue };
        let inside = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
        let (selector, label) =
            inside.and_then(|inside| inside.rsplit_once(", ")).context(query.to_owned())?;
        ensure!(OF_TARGET.contains(&label), "{query}: no target has the label {label}");
        expressions.push(selector.to_owned());
    }
    let lines = expressions.join("\n").replace("$__rate_interval", "5m");
    let parsed = parse(&[], &lines)?;
    check(&parsed)?;
    let shown: BTreeSet<_> = parsed.iter().flat_map(|parsed| &parsed.metrics).collect();
    let own = metrics()?.into_keys().filter(|name| name.starts_with("svc_"));
    let families = own.map(|name| name.trim_end_matches("_sum").trim_end_matches("_count").to_owned());
    let missing: Vec<_> = families
        .filter(|name| !shown.iter().any(|metric| metric.starts_with(name.as_str())))
        .filter(|name| !NOT_SHOWN.contains(&name.as_str()))
        .collect();
    ensure!(missing.is_empty(), "no panel shows {missing:?}");

    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].to_string()).collect();
    ensure!(ids.len() == panels.len(), "two panels have one id");
    let variables = board["templating"]["list"].as_array().into_iter().flatten();
    let variables: BTreeSet<_> = variables.filter_map(|variable| variable["name"].as_str()).collect();
    ensure!(
        variables == ["cluster", "datasource", "instance", "job"].into(),
        "the variables are {variables:?}"
    );
    Ok(())
}

fn runbook() -> Result<()> {
    let alerts = alert_names()?;
    let page = read("docs/runbook.md")?;
    let explained: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    ensure!(explained == alerts, "docs/runbook.md explains {explained:?}");
    let schema: Value = serde_json::from_str(&read("deploy/chart/values.schema.json")?)?;
    let switches = &schema["properties"]["prometheusRule"]["properties"]["alerts"]["propertyNames"]["enum"];
    let switches: BTreeSet<String> =
        serde_json::from_value(switches.clone()).context("values.schema.json")?;
    ensure!(switches == alerts, "values.schema.json knows {switches:?}");
    Ok(())
}
