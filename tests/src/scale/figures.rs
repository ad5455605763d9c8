//! The measured figures, and their targets.

use std::time::Duration;

use serde_json::{Value, json};

/// The column of the other proxy, a part of its ids: `cp.kube_proxy.sync`.
pub const KUBE_PROXY: &str = "kube_proxy";

/// One measured number; `None` if it could not be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// As `cp.sync`.
    pub kind: &'static str,
    pub column: String,
    pub value: Option<f64>,
    pub unit: &'static str,
    pub target: Option<f64>,
}

impl Figure {
    pub fn id(&self) -> String {
        match self.kind.split_once('.') {
            Some((area, kind)) if self.column == KUBE_PROXY => format!("{area}.{KUBE_PROXY}.{kind}"),
            _ => format!("{}.{}", self.kind, self.column),
        }
    }

    pub fn is_held(&self) -> Option<bool> {
        Some(self.value? <= self.target?)
    }
}

/// All figures, in the order they were measured.
#[derive(Debug, Default)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    pub fn push(&mut self, kind: &'static str, column: &str, value: Option<f64>, unit: &'static str) {
        let target = target(kind, column);
        self.0.push(Figure { kind, column: column.to_owned(), value, unit, target });
    }

    pub fn seconds(&mut self, kind: &'static str, column: &str, time: Option<Duration>) {
        self.push(kind, column, time.map(|time| time.as_secs_f64()), "s");
    }

    pub fn milliseconds(&mut self, kind: &'static str, column: &str, time: Option<Duration>) {
        self.push(kind, column, time.map(|time| time.as_secs_f64() * 1e3), "ms");
    }

    pub fn get(&self, kind: &str, column: &str) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.kind == kind && figure.column == column)
    }

    /// A change must not take much longer with many Services than with few.
    pub fn compare_with_smallest(&mut self) {
        for kind in ["cp.change_p50", "cp.change_p99"] {
            let Some(base) = self.get(kind, "100").and_then(|figure| figure.value) else { continue };
            for figure in self.0.iter_mut().filter(|figure| figure.kind == kind && figure.column != "100") {
                figure.target = figure.target.map(|target| target.min(1.5 * base));
            }
        }
    }

    pub fn json(&self) -> Value {
        let figures: Vec<_> = self
            .0
            .iter()
            .map(|figure| {
                let mut json = json!({"id": figure.id(), "value": figure.value, "unit": figure.unit});
                if let Some(target) = figure.target {
                    json["target"] = json!(target);
                    json["held"] = json!(figure.is_held().unwrap_or(false));
                }
                json
            })
            .collect();
        json!({"figures": figures})
    }
}

/// The target of each figure.
fn target(kind: &str, column: &str) -> Option<f64> {
    match (kind, column) {
        ("cp.unserved", _) if column != KUBE_PROXY => Some(0.0),
        ("cp.sync" | "cp.restart", "1000") => Some(1.0),
        ("cp.adopted", _) => Some(0.5),
        ("cp.written", "10000") => Some(0.5),
        ("cp.written", "100000") => Some(6.0),
        ("cp.change_p50", "1000" | "10000" | "30000" | "100000") => Some(2.0),
        ("cp.change_p99", "1000" | "10000" | "30000" | "100000") => Some(10.0),
        ("cp.cpu_per_change", "30000") => Some(1.0),
        ("cp.burst", "10000") => Some(1.0),
        ("cp.scrape", "10000") => Some(100.0),
        ("cp.rss", "10000") => Some(50.0),
        ("cp.rss", "30000") => Some(100.0),
        ("cp.rss", "100000") => Some(300.0),
        ("cp.idle_cpu", "30000") => Some(0.5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_its_target_beside_it() {
        let mut figures = Figures::default();
        figures.milliseconds("cp.change_p50", "100", Some(Duration::from_millis(1)));
        figures.milliseconds("cp.change_p50", "10000", Some(Duration::from_micros(1_700)));
        figures.push("cp.rss", "10000", None, "MB");
        assert_eq!(figures.0[1].is_held(), Some(true));
        figures.compare_with_smallest();
        assert_eq!(figures.0[1].is_held(), Some(false));
        let json = figures.json();
        assert_eq!(json["figures"][0]["id"], "cp.change_p50.100");
        assert_eq!(json["figures"][1]["held"], false);
        assert_eq!(
            (&json["figures"][2]["value"], &json["figures"][2]["held"]),
            (&Value::Null, &json!(false))
        );
    }
}
