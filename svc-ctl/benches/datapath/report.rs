//! Writes the measurements as a part of docs/performance.md.

use std::fmt::Write as _;
use std::fs;

use crate::cases::Case;

/// Nanoseconds per packet, by case and round.
pub type Samples = Vec<Vec<f64>>;

pub fn page(cases: &[Case], samples: &Samples, packets: u32, busy: f64) -> String {
    let mut page = format!(
        "## Datapath

Written by `cargo xtask bench datapath`; not by hand. Nanoseconds per packet of 80 octets on one CPU, the wrapper that restores
each packet included. Only the ratios, taken inside each round of one run, can be compared with another machine's.

- kernel {}, {}; {} rounds of {packets} packets a case, round-robin; the other CPUs were {:.0} % busy
- XDP and TC by BPF_PROG_TEST_RUN. At XDP a NodePort Service with {} remote backends, DNAT and SNAT, next hops from the routing table
  and its neighbors; UDP, except where SYNs or an older connection are named. At TC a ClusterIP with a backend on this node, and packets of no Service. Before each sample the case runs untimed, so that it is measured with its own data in cache.
- The first packet of each case was asserted before timing: verdict, the whole packet, and that its record was met or made.

",
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        cpu_model(),
        samples.first().map_or(0, Vec::len),
        busy * 100.0,
        crate::node::BACKENDS,
    );
    let families = cases.iter().fold(Vec::new(), |mut families, case| {
        if !families.contains(&case.family) {
            families.push(case.family);
        }
        families
    });
    for family in families {
        let _ = writeln!(page, "### {family}\n");
        page.push_str(
            "| case | min | median | max | compared with | ratio, median | ratio, p10/p10 | to hold |\n",
        );
        page.push_str("|---|---|---|---|---|---|---|---|\n");
        for (index, case) in cases.iter().enumerate().filter(|(_, case)| case.family == family) {
            page.push_str(&row(cases, samples, index, case));
        }
        page.push('\n');
    }
    page
}

fn row(cases: &[Case], samples: &Samples, index: usize, case: &Case) -> String {
    let own = &samples[index];
    let mut row = format!(
        "| {} | {:.0} | {:.0} | {:.0} |",
        case.name,
        quantile(own, 0.0),
        quantile(own, 0.5),
        quantile(own, 1.0)
    );
    let floor = case.against.and_then(|(name, target)| {
        let at = cases.iter().position(|other| other.family == case.family && other.name == name)?;
        Some((name, target, &samples[at]))
    });
    match floor {
        Some((name, target, floor)) => {
            let ratios: Vec<_> = own.iter().zip(floor).map(|(own, floor)| own / floor).collect();
            let (median, p10) = (quantile(&ratios, 0.5), quantile(own, 0.1) / quantile(floor, 0.1));
            let held = if median <= target { "held" } else { "missed" };
            let name = name.trim_start_matches("floor: ");
            let _ = writeln!(row, " {name} | {median:.2} | {p10:.2} | {target:.2}, {held} |");
        }
        None => row.push_str(" | | | |\n"),
    }
    row
}

/// Quantiles of all cases, by id and family.
pub fn json(cases: &[Case], samples: &Samples, frontends: u32, busy: f64) -> serde_json::Result<String> {
    let of = |(case, own): (&Case, &Vec<f64>)| {
        let family = if case.family == "IPv4" { "v4" } else { "v6" };
        let value = serde_json::json!({
            "min": quantile(own, 0.0), "p10": quantile(own, 0.1), "median": quantile(own, 0.5),
            "max": quantile(own, 1.0),
        });
        (format!("{}.{family}", case.id), value)
    };
    let cases: serde_json::Map<_, _> = cases.iter().zip(samples).map(of).collect();
    serde_json::to_string_pretty(&serde_json::json!({
        "unit": "ns per packet, wrapper included", "other_services": frontends, "others_busy": busy, "cases": cases,
    }))
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown CPU").to_owned()
}
