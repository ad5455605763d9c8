//! Runs the suite's programs (`ginkgo`, `e2e.test`) against a running cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::report::{self, SpecOutcomes};
use crate::cluster::args::Dns;
use crate::netns::Netns;

/// Specs for a cluster without cloud and network policies: the rest of sig-network.
const FOCUS: &str = r"\[sig-network\]";
const LEFT_OUT: &str = r"Feature:NetworkPolicy|kube-proxy migration|Feature:PerformanceDNS|DNS configMap nameserver|Disruptive|load balancer cleanup finalizer";
/// Left out too where nothing gives addresses to Services of type LoadBalancer.
const LEFT_OUT_WITHOUT_ADDRESSES: &str = "Feature:LoadBalancer";
/// Specs of DNS, whichever server answers.
const FOCUS_DNS: &str = r"\[sig-network\] DNS";
/// They change the ConfigMap of CoreDNS, and wait for its pods.
const LEFT_OUT_DNS: &str = "DNS configMap nameserver";
/// The suite's label for specs that disturb others.
const ALONE: &str = "Serial";

/// A failing spec is retried once: many allow too little time for a busy machine.
const ATTEMPTS: &str = "--flake-attempts=2";

/// Environment of a run of the suite.
#[derive(Debug)]
pub struct Place<'a> {
    /// The network namespace that reaches API server and nodes.
    pub hub: &'a Netns,
    pub kubeconfig: PathBuf,
    /// Folder of ginkgo, e2e.test and kubectl.
    pub programs: PathBuf,
    pub nodes: usize,
    /// Services of type LoadBalancer get addresses.
    pub has_addresses: bool,
    /// Folder for reports and logs.
    pub dir: PathBuf,
}

/// Runs all specs (of DNS, if svc serves it) or those that match `focus`: first concurrently, then one by one those that must be
/// alone.
pub fn run(place: &Place<'_>, focus: Option<&str>, dns: Dns, procs: usize) -> Result<SpecOutcomes> {
    fs::create_dir_all(&place.dir).with_context(|| format!("make {}", place.dir.display()))?;
    let (focus, skip) = match (focus, dns) {
        (Some(focus), _) => (focus, String::new()),
        (None, Dns::Coredns) if place.has_addresses => (FOCUS, LEFT_OUT.to_owned()),
        (None, Dns::Coredns) => (FOCUS, format!("{LEFT_OUT}|{LEFT_OUT_WITHOUT_ADDRESSES}")),
        (None, Dns::Svc) => (FOCUS_DNS, LEFT_OUT_DNS.to_owned()),
    };
    let mut outcomes = place.part("together", focus, &skip, &format!("!{ALONE}"), procs)?;
    for (spec, outcome) in place.part("alone", focus, &skip, ALONE, 1)? {
        if outcome != report::SpecOutcome::NotRun {
            outcomes.insert(spec, outcome);
        }
    }
    Ok(outcomes)
}

impl Place<'_> {
    /// One run of ginkgo for the specs with a label, or without it (`!`). Failing specs are no error here.
    fn part(&self, name: &str, focus: &str, skip: &str, label: &str, procs: usize) -> Result<SpecOutcomes> {
        let report = self.dir.join(format!("{name}.json"));
        let _ = fs::remove_file(&report);
        let log = self.dir.join(format!("{name}.log"));
        let mut ginkgo = self.hub.command(self.programs.join("ginkgo"))?;
        ginkgo.current_dir(&self.dir).args(["run", "--no-color", "-v", "--timeout=3h", ATTEMPTS]);
        ginkgo.arg(format!("--procs={procs}")).arg(format!("--focus={focus}"));
        ginkgo.arg(format!("--label-filter={label}"));
        if !skip.is_empty() {
            ginkgo.arg(format!("--skip={skip}"));
        }
        ginkgo.arg(format!("--json-report={name}.json")).arg(format!("--output-dir={}", self.dir.display()));
        ginkgo.arg(self.programs.join("e2e.test")).arg("--").args(self.flags());
        let status = logged(&mut ginkgo, &log)?;
        let text = fs::read_to_string(&report).with_context(|| {
            format!("{status}: ginkgo wrote no report {}; its log is {}", report.display(), log.display())
        })?;
        let outcomes = report::parse(&text)?;
        ensure!(!outcomes.is_empty(), "no spec of sig-network in {}", report.display());
        Ok(outcomes)
    }

    fn flags(&self) -> Vec<String> {
        vec![
            "--provider=skeleton".into(),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--kubectl-path={}", self.programs.join("kubectl").display()),
            format!("--num-nodes={}", self.nodes),
            "--allowed-not-ready-nodes=0".into(),
            "--dump-logs-on-failure=false".into(),
        ]
    }
}

fn logged(command: &mut Command, log: &Path) -> Result<std::process::ExitStatus> {
    let file = fs::File::create(log).with_context(|| format!("make {}", log.display()))?;
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    Ok(child.wait()?)
}
