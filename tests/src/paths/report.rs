//! The series as the table of docs/performance.md.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use super::{Case, Dials, Path, REQUESTS, Series};
use crate::agent::{Sockets, Via};
use crate::scale::report::cpu_model;
use crate::topology::Family;

pub fn markdown(all: &[Series], rounds: u32) -> String {
    let mut page = format!(
        "## Requests of real sockets

Written by `cargo xtask bench paths`. Microseconds of one request with its reply, minimum of {rounds} samples of {REQUESTS}
requests, and in brackets the ratio to the direct path: the median over the ratios of each round.

- kernel {}, {}, {} CPUs; IPv4 / IPv6
- Client, nodes and pods are network namespaces joined by veth, both ends of a request share the CPUs. Direct: the client dials the pod's address. nft: rules
  like kube-proxy's, of one Service.
- \"open\": requests on one connected socket. \"new\": a socket for each request (open, connect, ask, close).

| client, backend, dials | request | {} |
|---|---|{}
",
        fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        cpu_model(),
        std::thread::available_parallelism().map_or(0, usize::from),
        Path::ALL.map(path_label).join(" | "),
        "---|".repeat(Path::ALL.len()),
    );
    // A row has the two families of a case.
    let (v4, v6): (Vec<_>, Vec<_>) = cases(all).into_iter().partition(|case| case.family == Family::V4);
    for (v4, v6) in v4.iter().zip(&v6) {
        let cells = Path::ALL.map(|path| {
            let both = [v4, v6].map(|case| cell(all, path, case));
            if both.iter().all(Option::is_none) {
                return String::new();
            }
            both.map(Option::unwrap_or_default).join(" / ")
        });
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {} | {} |", case_label(v4), cells.join(" | "));
    }
    page
}

/// Every case once, in the order of the series.
fn cases(all: &[Series]) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for series in all {
        if !cases.contains(&series.case) {
            cases.push(series.case);
        }
    }
    cases
}

fn cell(all: &[Series], path: Path, case: &Case) -> Option<String> {
    let of = |path| all.iter().find(|series| series.path == path && series.case == *case);
    let series = of(path)?;
    let least = series.samples.iter().min()?;
    let figure = format!("{:.1}", micros(*least));
    if path == Path::Direct {
        return Some(figure);
    }
    let mut ratios: Vec<f64> =
        series.samples.iter().zip(&of(Path::Direct)?.samples).map(|(a, b)| micros(*a) / micros(*b)).collect();
    ratios.sort_by(f64::total_cmp);
    Some(format!("{figure} ({:.2})", ratios.get(ratios.len() / 2)?))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

const fn path_label(path: Path) -> &'static str {
    match path {
        Path::Direct => "direct",
        Path::Nft => "nft",
        Path::Programs => "svc: programs",
        Path::SocketHooks => "svc: socket hooks",
        Path::Stack => "svc: through the stack",
        Path::BySource => "svc: routes by source",
    }
}

fn case_label(case: &Case) -> String {
    let dials = match case.dials {
        Dials::ClusterIp => "ClusterIP",
        Dials::NodePort => "NodePort",
    };
    let proto = if case.via == Via::Tcp { "TCP" } else { "UDP" };
    let sockets = match case.sockets {
        Sockets::Shared => "open",
        Sockets::Fresh => "new",
        Sockets::Unused => "unused",
    };
    format!("{}, `{}`, {dials} | {proto}, {sockets}", case.client, case.backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_both_families_and_ratios_of_each_round() {
        let series = |path, family, samples: [u64; 3]| Series {
            path,
            case: Case {
                client: "pod",
                backend: "near",
                dials: Dials::ClusterIp,
                via: Via::Tcp,
                sockets: Sockets::Fresh,
                family,
            },
            samples: samples.map(Duration::from_micros).to_vec(),
        };
        let all = [
            series(Path::Direct, Family::V4, [10, 20, 40]),
            series(Path::Nft, Family::V4, [15, 22, 44]),
            series(Path::Direct, Family::V6, [10, 10, 10]),
        ];
        let page = markdown(&all, 3);
        let row = "| pod, `near`, ClusterIP | TCP, new | 10.0 / 10.0 | 15.0 (1.10) /  |  |  |  |  |";
        assert!(page.lines().any(|line| line == row), "{page}");
    }
}
