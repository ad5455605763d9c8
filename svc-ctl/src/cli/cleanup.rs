//! `svc-ctl cleanup`.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use anyhow::Context as _;

use super::args::CleanupArgs;
use crate::dataplane::clsact;
use crate::dataplane::pins::{Pins, is_locked};
use crate::lb::bgp::kernel_routes;
use crate::lb::{bgp, groups, report};
use crate::node::cgroup;

pub fn main(args: &CleanupArgs) -> anyhow::Result<()> {
    // First, because this refuses a foreign directory and one that a daemon uses.
    let removed = Pins::remove(&args.pins.pin_dir)?;
    let filters = clsact::remove_all()?;
    let run_dir = &args.run_dir.run_dir;
    // A daemon with another pin directory may have its files in the run directory.
    if !is_locked(&run_dir.join("lock")) {
        cgroup::cleanup(run_dir)?;
        remove_routes(run_dir)?;
        groups::leave_all(report::Report::read(run_dir)?.unwrap_or_default())?;
        for name in ["status.json", report::FILE, bgp::report::FILE, "lock"] {
            let path = run_dir.join(name);
            match std::fs::remove_file(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    return Err(err).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
    }
    println!("removed {removed} pins of {} and {filters} clsact filters", args.pins.pin_dir.display());
    Ok(())
}

/// Removes the routes that a daemon with `loadBalancer.bgp.mode: routes` has left.
fn remove_routes(run_dir: &Path) -> anyhow::Result<()> {
    let Some(place) = bgp::report::BgpReport::read(run_dir)?.and_then(|report| report.routes) else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(kernel_routes::bring(place, &BTreeSet::new())).context("removing routes")
}
