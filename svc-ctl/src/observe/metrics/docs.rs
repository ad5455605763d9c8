//! Writes `docs/metrics.md` from the page of an example: names, types, labels and words are those of the registry.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::tests::{example, expect, shapes};

/// About metrics of kube-proxy's library for metrics.
const COUNTS_ITSELF: &str = "svc hides and disables no metrics; this page lists them";

/// kube-proxy's metrics that svc lacks, by the prefix of their names, with the reason.
const LEFT_OUT: [(&str, &str); 19] = [
    ("registered_metrics_total", COUNTS_ITSELF),
    ("hidden_metrics_total", COUNTS_ITSELF),
    ("disabled_metrics_total", COUNTS_ITSELF),
    ("cardinality_enforcement_unexpected_categorizations_total", COUNTS_ITSELF),
    (
        "kubeproxy_sync_full_proxy_rules_duration_seconds",
        "the tables are never rewritten as a whole: only changes are written",
    ),
    (
        "kubeproxy_sync_partial_proxy_rules_duration_seconds",
        "every turn is partial: sync_proxy_rules_duration_seconds has it",
    ),
    ("kubeproxy_sync_proxy_rules_nftables_", "there are no rules of nftables"),
    ("kubeproxy_sync_proxy_rules_iptables_", "there are no rules of iptables"),
    ("kubeproxy_iptables_", "there are no rules of iptables"),
    (
        "kubeproxy_conntrack_reconciler_",
        "svc keeps its own flows; svc_udp_flows_removed_total counts those that it ends",
    ),
    (
        "kubernetes_build_info",
        "it is the version of Kubernetes; that of svc would raise the alert KubeVersionMismatch. svc_build_info has it",
    ),
    ("kubernetes_feature_enabled", "svc honours one gate, AllowServiceExternalIPs; `/configz` shows it"),
    ("process_network_", "a pod on the node's network would count all of the node's traffic"),
    ("rest_client_exec_plugin_", "svc keeps no cache of credentials"),
    ("rest_client_rate_limiter_", "requests are not limited: there are three watches"),
    ("rest_client_transport_", "svc has one connection and no cache of them"),
    ("rest_client_request_size_bytes", "sizes are not measured"),
    ("rest_client_response_size_bytes", "sizes are not measured"),
    ("rest_client_request_retries_total", "a request is never sent again by itself"),
];

/// The reason why svc lacks a metric of kube-proxy.
pub fn left_out(name: &str) -> Option<&'static str> {
    LEFT_OUT.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, reason)| *reason)
}

const PREFACE: &str = "# Metrics

Written by `UPDATE_EXPECT=1 cargo test -p svc-ctl --lib metrics` from the registry, not by hand.

`/metrics` at `--metrics-bind-address` (127.0.0.1:10249) answers in Prometheus' own text format, version 0.0.4, and in
OpenMetrics where the client accepts nothing else. kube-proxy's names have kube-proxy's types, labels and classes, so its
dashboards and alerts work. Names and labels are stable: they only ever get more. Times are seconds, sizes are octets;
counters count from the start of the daemon, those of the kernel's programs from when their maps were made.

[tests/PAGES.md](../tests/PAGES.md) is made from both pages on one cluster: each name of the real kube-proxy's, with what svc has for it.

`/metrics/slis` has `kubernetes_healthcheck` and `kubernetes_healthchecks_total` of `/healthz` at the same address, as kube-proxy has it.

Answers: 200 with the page. 500 if the page could not be written. A port that is taken is a complaint in `svc-ctl status`
and is tried again every 5 seconds; everything else runs.

The programs' counters and the use of tables are as old as the last sweep: 5 seconds, 30 for tables in which nothing expires.
Service ports have series of their own up to `--metrics-service-ports` (1,000), the first ones by namespace and name. Ports beyond
that have none. `svc_service_ports_without_series` counts them.
";

fn page_of_docs() -> String {
    let page = example().prometheus_text().unwrap();
    let helps: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    let shapes = shapes(&page);
    let mut out = PREFACE.to_owned();
    for (title, prefix) in [
        ("kube-proxy's", "kubeproxy_"),
        ("svc's own", "svc_"),
        ("Requests to the API server", "rest_client_"),
        ("The process", "process_"),
    ] {
        write!(out, "\n## {title}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n").unwrap();
        for (name, (kind, labels, bounds)) in shapes.iter().filter(|(name, _)| name.starts_with(prefix)) {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = match (bounds.first(), bounds.get(bounds.len().saturating_sub(2))) {
                (Some(first), Some(last)) => format!("{kind}, {first} to {last} s"),
                _ => kind.clone(),
            };
            let help = helps.get(name.as_str()).copied().unwrap_or_default();
            writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
        }
    }
    out += "\n## kube-proxy's metrics that svc lacks\n\n| name | why |\n|---|---|\n";
    for (prefix, reason) in LEFT_OUT {
        let rest = if prefix.ends_with('_') { "*" } else { "" };
        writeln!(out, "| `{prefix}{rest}` | {reason} |").unwrap();
    }
    out += "| `go_*` | svc is not written in Go; `svc_tasks` has the place of `go_goroutines` |\n";
    out
}

#[test]
fn docs_metrics_md_is_that_of_the_registry() {
    expect("docs/metrics.md", &page_of_docs());
}
