//! The Helm chart: its output or refusal for a table of values. `deploy/*.yaml` equals its default output. Its alerts
//! and dashboard use only existing metrics. Helm and Prometheus' parser are the real ones of `tests/cluster`.

mod flags;
mod helm;
mod matrix;
mod observability;
mod rights;
mod shipped;
mod unit;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let trials = [
        matrix::trials(),
        shipped::trials(),
        flags::trials(),
        observability::trials(),
        rights::trials(),
        unit::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
