//! The page `/metrics` of a daemon, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};

use crate::http;
use crate::netns::Netns;

/// Of `--metrics-bind-address`.
const PORT: u16 = 10249;

/// The page of the daemon in that network namespace.
pub fn of(netns: &Netns) -> Result<String> {
    netns.within(here)
}

/// The page of the daemon in this thread's network namespace.
pub fn here() -> Result<String> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let response = http::get_accepting(at, "/metrics", None).context("GET /metrics")?;
    ensure!(response.status == 200, "GET /metrics: {}: {:.80}", response.status, response.body);
    Ok(response.body)
}

/// The sums of a metric's series, by the values of one label. Without a label: one sum, under the empty name.
pub fn sums(page: &str, metric: &str, by: Option<&str>) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix(metric).filter(|rest| rest.starts_with(['{', ' '])) else {
            continue;
        };
        let Some((labels, value)) = rest.rsplit_once(' ') else { continue };
        let name = by.map_or("", |label| value_of(labels, label).unwrap_or_default());
        if let Ok(value) = value.parse::<f64>() {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

/// Values with quotation marks in them do not occur.
fn value_of<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = labels.trim_matches(['{', '}']).split("\",");
    pairs
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\""))
        .map(|value| value.trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_a_label() {
        let page = "# TYPE a_total counter\na_total{x=\"1\",y=\"p\"} 2\na_total{x=\"2\",y=\"p\"} 3\n\
                    a_total{x=\"1\",y=\"q\"} 0.5\na_total_more{y=\"p\"} 9\nb 7\n";
        let expected = |pairs: &[(&str, f64)]| -> BTreeMap<String, f64> {
            pairs.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect()
        };
        assert_eq!(sums(page, "a_total", Some("y")), expected(&[("p", 5.0), ("q", 0.5)]));
        assert_eq!(sums(page, "a_total", Some("x")), expected(&[("1", 2.5), ("2", 3.0)]));
        assert_eq!(sums(page, "a_total", None), expected(&[("", 5.5)]));
        assert_eq!(sums(page, "b", None), expected(&[("", 7.0)]));
        assert_eq!(sums(page, "c", None), expected(&[]));
    }
}
