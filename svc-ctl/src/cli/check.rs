//! `svc-ctl check`.

use std::process::ExitCode;

use anyhow::Context as _;
use comfy_table::{Table, presets};

use super::args::{CheckArgs, Output};
use super::output::emit;
use crate::check::facts::{self, FactSources};
use crate::check::{Finding, Verdict, findings};
use crate::node::roles::RoleRules;
use crate::source::kubernetes;

/// Exits with 1 if a check fails. Warnings are not failures.
pub fn main(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let sources = FactSources {
        pin_dir: args.pins.pin_dir.clone(),
        run_dir: args.run_dir.run_dir.clone(),
        cgroup: args.cgroup.clone(),
        api: kubernetes::Options {
            kubeconfig: args.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty()),
            master: given(&args.master),
            service_account: kubernetes::SERVICE_ACCOUNT.into(),
            ..kubernetes::Options::default()
        },
        roles: RoleRules {
            uplinks: args.uplink.clone(),
            excluded: args.exclude_interface.clone(),
            pods: args.pod_interface.clone(),
        },
        masquerades_local: false,
        all_nodes: args.all_nodes.then_some(args.healthz_port),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let all = findings(&runtime.block_on(facts::read(&sources)));
    runtime.shutdown_background();
    match args.output {
        Output::Json => emit(&format!("{}\n", serde_json::to_string_pretty(&all)?))?,
        Output::Table => emit(&table(&all))?,
    }
    let has_failed = all.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A line for each check, with the remedy below it.
pub fn table(all: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["CHECK", "", "FOUND"]);
    for finding in all {
        let verdict = match finding.verdict {
            Verdict::Pass => "pass",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        table.add_row([finding.name, verdict, &finding.found]);
        if !finding.cure.is_empty() {
            table.add_row(["", "", &format!("-> {}", finding.cure)]);
        }
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
