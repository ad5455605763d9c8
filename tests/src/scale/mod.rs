//! Measures the control plane: how fast and at what cost the real daemon follows an API server with many Services.
//!
//! `population` has the addresses, `objects` writes them as Kubernetes objects, `stub_api` serves these over `http`
//! from a `store`. A daemon runs on a `node`; `tables` and `process` observe it from outside. `column` joins all of
//! them. `real_api` and `kube_proxy` replace the stub and svc.

mod args;
mod changes;
mod column;
mod figures;
mod http;
mod in_force;
mod kube_proxy;
mod node;
mod objects;
mod population;
pub mod process;
mod real_api;
pub mod report;
mod scrape;
pub mod store;
pub mod stub_api;
mod tables;

use std::path::Path;

use anyhow::{Context as _, Result};

pub use args::Args;

use crate::cleanup::Cleanup;
use crate::ownership;

/// Prints the table, and writes the report if requested.
pub fn main(args: &Args) -> Result<()> {
    let _cleanup = Cleanup::start()?;
    let mut figures = figures::Figures::default();
    for column in args.chosen() {
        column::measure(column, &mut figures).with_context(|| format!("column {column}"))?;
        publish(&mut figures, args.report.as_deref())?;
    }
    if args.real_api_server {
        column::measure_real(&mut figures).context("the real API server")?;
        publish(&mut figures, args.report.as_deref())?;
    }
    if args.against == Some(args::Against::KubeProxy) {
        kube_proxy::measure(&mut figures).context("kube-proxy")?;
    }
    publish(&mut figures, args.report.as_deref())?;
    print!("{}", report::markdown(&figures));
    Ok(())
}

/// After each column, so that a failing column does not lose earlier measurements.
fn publish(figures: &mut figures::Figures, report: Option<&Path>) -> Result<()> {
    figures.compare_with_smallest();
    let Some(path) = report else { return Ok(()) };
    std::fs::write(path, format!("{:#}\n", figures.json()))
        .with_context(|| format!("write {}", path.display()))?;
    ownership::hand_back(&[path])
}
