//! `cargo xtask bench datapath`: measures the XDP path and the programs at TC beside lower bounds. Only the measuring is privileged.

use std::ffi::OsString;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use super::page;
use crate::privilege::Privilege;
use crate::{bpf, executable, project, setup};

#[derive(clap::Args)]
#[group(id = "datapath")]
pub struct Args {
    /// Rounds over all cases (150 for figures to publish)
    #[arg(long, default_value_t = 150)]
    rounds: u32,
    /// Other Services in the tables
    #[arg(long, default_value_t = 0)]
    frontends: u32,
    /// Also write the figures of each case into this file, as JSON
    #[arg(long)]
    report: Option<std::path::PathBuf>,
    /// Print the page instead of writing docs/performance.md
    #[arg(long)]
    dry_run: bool,
}

pub fn main(args: &Args) -> Result<()> {
    setup::for_running()?;
    let privilege = Privilege::find();
    if privilege == Privilege::None {
        bail!("loading programs needs root or sudo");
    }
    let floors = project::target_dir().join("bpf/svc-bench.o");
    let target = project::target_dir().join("bpf");
    std::fs::create_dir_all(&target)?;
    bpf::compile(project::root(), "svc-bench", &target, std::env::consts::ARCH, &floors)
        .map_err(anyhow::Error::msg)?;
    let executables = executable::build(&["bench", "--package", "svc-ctl", "--bench", "datapath"])?;
    let bench = executables.first().context("cargo made no bench")?;

    let rounds = args.rounds.to_string();
    let frontends = args.frontends.to_string();
    let mut arguments: Vec<OsString> =
        vec!["--floors".into(), floors.into(), "--rounds".into(), rounds.into()];
    arguments.extend(["--frontends".into(), frontends.into()]);
    if let Some(report) = &args.report {
        arguments.extend(["--report".into(), std::path::absolute(report)?.into()]);
    }
    let output = privilege.command(&bench.path, &[]).args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the bench failed ({})", output.status);
    }
    page::publish("datapath", &String::from_utf8(output.stdout)?, args.dry_run)
}
