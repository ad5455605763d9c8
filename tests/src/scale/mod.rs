//! Measures the control plane: how fast and at what cost the real daemon follows an API server with many Services.
//!
//! `population` is who has which address, `objects` writes that as Kubernetes does, `stub_api` serves it over `http` from a
//! `store`. `node` is where a daemon runs; `tables` and `process` look at it from outside. `column` joins them.
//! `real_api` and `kube_proxy` stand in for the stub and for svc.

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
mod report;
mod scrape;
pub mod store;
pub mod stub_api;
mod tables;

use std::path::Path;

use anyhow::{Context as _, Result};

pub use args::Args;

use crate::janitor::Janitor;
use crate::ownership;

/// Prints the table, and writes the report where one is asked for.
pub fn main(args: &Args) -> Result<()> {
    let _janitor = Janitor::start()?;
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

/// After each column, so that what is measured survives a column that fails.
fn publish(figures: &mut figures::Figures, report: Option<&Path>) -> Result<()> {
    figures.compare_with_smallest();
    let Some(path) = report else { return Ok(()) };
    std::fs::write(path, format!("{:#}\n", figures.json()))
        .with_context(|| format!("write {}", path.display()))?;
    ownership::hand_back(&[path])
}
