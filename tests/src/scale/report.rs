//! The figures as the table of docs/performance.md.

use std::fmt::Write as _;
use std::fs;

use super::figures::{Figure, Figures, KUBE_PROXY};

/// Kinds of figures in the order of the rows, with descriptions.
const ROWS: [(&str, &str); 21] = [
    ("cp.unserved", "Services not served"),
    ("cp.sync", "start -> in force"),
    ("cp.attached", "start -> programs attached as well"),
    ("cp.adopted", "killed and started again -> holds its programs"),
    ("cp.restart", "killed and started again -> in force"),
    ("cp.lists", "last list item sent -> in force"),
    ("cp.written", "last list item sent -> all maps written"),
    ("cp.change_p50", "one change -> in the map, p50"),
    ("cp.change_p99", "one change -> in the map, p99"),
    ("cp.burst", "1,000 changes at once -> in the map"),
    ("cp.plan", "one change: planning, mean of 50"),
    ("cp.write", "one change: writing to the kernel, mean of 50"),
    ("cp.cpu_per_change", "CPU per change"),
    ("cp.idle_cpu", "idle CPU, of one core"),
    ("cp.rss", "RSS"),
    ("cp.rss_peak", "RSS, peak"),
    ("cp.kernel_memory", "kernel memory of maps"),
    ("cp.scrape", "the longest of 20 scrapes, all service ports with series"),
    ("cp.page", "the page of metrics"),
    ("cp.events", "Events created"),
    ("cp.others_cpu", "processors used by others meanwhile"),
];

pub fn markdown(figures: &Figures) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for figure in &figures.0 {
        if !columns.contains(&figure.column.as_str()) {
            columns.push(&figure.column);
        }
    }
    let mut page = format!(
        "## Control plane

Written by `cargo xtask bench control-plane`. One daemon in a network namespace, four endpoints a Service.

- kernel {}, {}, {} CPUs
- A stub API server with ready-made objects, which streams lists as fast as they are read. `lb`: each Service has a
  load-balancer address, 27 of 100 a NodePort; `dual`: both families; `real`: the real API server.
- A change puts another address into one EndpointSlice, and ends when a look-up in the pinned map finds it; 200 of them
  (fewer where they take more than 90 s), each when the daemon rests. Services not served are counted in the maps, with all endpoints, after all changes.
- \"held\" and \"missed\": against the targets in `tests/src/scale/figures.rs`. One change must also take no more than 1.5
  times as long as with 100 Services.

",
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        cpu_model(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    let _ = writeln!(
        page,
        "| | {} |",
        columns.iter().map(|column| title(column)).collect::<Vec<_>>().join(" | ")
    );
    let _ = writeln!(page, "|---|{}", "---|".repeat(columns.len()));
    for (kind, words) in ROWS {
        let cells: Vec<_> = columns.iter().map(|column| cell(figures.get(kind, column))).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(page, "| {words} | {} |", cells.join(" | "));
        }
    }
    page
}

/// `10000` -> `10,000`, `lb10000` -> `lb 10,000`.
fn title(column: &str) -> String {
    let digits = column.find(|c: char| c.is_ascii_digit()).unwrap_or(column.len());
    let (name, number) = column.split_at(digits);
    let number = grouped(number);
    match name {
        "" => number,
        KUBE_PROXY => "kube-proxy, 10,000".to_owned(),
        _ => format!("{name} {number}"),
    }
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn cell(figure: Option<&Figure>) -> String {
    let Some(figure) = figure else { return String::new() };
    let verdict = match (figure.target, figure.is_held()) {
        (None, _) => "",
        (Some(_), Some(true)) => ", held",
        (Some(_), _) => ", **missed**",
    };
    let Some(value) = figure.value else { return format!("-{verdict}") };
    let number = match (figure.unit, value) {
        ("Services" | "Events", _) => grouped(&format!("{value:.0}")),
        ("s", ..1.0) => format!("{:.0} ms", value * 1e3),
        (_, 100.0..) => format!("{value:.0} {}", figure.unit),
        (_, 10.0..) => format!("{value:.1} {}", figure.unit),
        _ => format!("{value:.2} {}", figure.unit),
    };
    number + verdict
}

pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    model.unwrap_or("unknown CPU").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_row_has_a_cell_for_each_column_and_a_verdict_where_there_is_a_target() {
        let mut figures = Figures::default();
        figures.push("cp.unserved", "100", Some(0.0), "Services");
        figures.push("cp.unserved", "lb10000", Some(8_976.0), "Services");
        figures.milliseconds("cp.change_p50", "100", Some(Duration::from_micros(8_250)));
        let page = markdown(&figures);
        assert!(page.contains("| | 100 | lb 10,000 |\n"), "{page}");
        assert!(page.contains("| Services not served | 0, held | 8,976, **missed** |\n"), "{page}");
        assert!(page.contains("| one change -> in the map, p50 | 8.25 ms |  |\n"), "{page}");
    }
}
