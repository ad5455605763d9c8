//! `svc-ctl cleanup`.

use anyhow::Context as _;

use super::args::CleanupArgs;
use crate::dataplane::clsact;
use crate::dataplane::pins::Pins;

pub fn main(args: &CleanupArgs) -> anyhow::Result<()> {
    let filters = clsact::remove_all()?;
    let removed = Pins::remove(&args.pins.pin_dir)?;
    let status = args.run_dir.run_dir.join("status.json");
    if status.exists() {
        std::fs::remove_file(&status).with_context(|| format!("removing {}", status.display()))?;
    }
    println!("removed {removed} pins of {} and {filters} clsact filters", args.pins.pin_dir.display());
    Ok(())
}
