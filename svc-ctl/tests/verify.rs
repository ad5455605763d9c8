//! This kernel's verifier accepts every kernel program, within the recorded budget of instructions.
//!
//! One case per program, listed from the object without privileges. Prints each cost; `UPDATE_EXPECT=1` writes new
//! budgets, a quarter above the measured cost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use libtest_mimic::{Arguments, Failed, Trial};
use svc_common::abi::{Config, PodSockets};
use svc_common::datapath::select::snat_ring;
use svc_ctl::dataplane::object::OBJECT;

const HEADER: &str =
    "# Instructions that the verifier may look at, per program (`cargo xtask verify` compares and prints).\n";

fn main() -> ExitCode {
    // One at a time: loading takes locked memory, and the output stays in order.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let object = aya_obj::Object::parse(OBJECT).expect("the embedded object is sound");
    let mut names: Vec<_> = object.programs.into_keys().collect();
    names.sort();
    let run = Arc::new(Mutex::new(Run::default()));
    let trials = names.into_iter().map(|name| {
        let run = Arc::clone(&run);
        Trial::test(name.clone(), move || run.lock().map_err(|err| err.to_string())?.verify(&name))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Ok(run) = run.lock() {
        println!("{}", run.report.join("\n"));
        if is_updating() {
            std::fs::write(budget_file(), run.new_budgets()).expect("docs/ can be written");
        }
    }
    conclusion.exit_code()
}

/// The maps, made once, and the measurements so far.
#[derive(Default)]
struct Run {
    ebpf: Option<Ebpf>,
    measured: BTreeMap<String, u32>,
    report: Vec<String>,
}

impl Run {
    fn verify(&mut self, name: &str) -> Result<(), Failed> {
        let program = self.ebpf()?.program_mut(name).ok_or("not in the object")?;
        match program {
            Program::SchedClassifier(program) => program.load()?,
            Program::Xdp(program) => program.load()?,
            Program::CgroupSockAddr(program) => program.load()?,
            Program::CgroupSock(program) => program.load()?,
            other => return Err(format!("svc has no use for a program like {other:?}").into()),
        }
        let info = program.info()?;
        let verified = info
            .verified_instruction_count()
            .ok_or("the kernel does not report the verified instructions")?;
        let (translated, jitted) = (info.size_translated().unwrap_or(0), info.size_jitted());
        self.report.push(format!(
            "{name:<16} {verified:>7} instructions verified, {translated:>6} octets, {jitted:>6} as machine code"
        ));
        self.measured.insert(name.to_owned(), verified);
        // Another kernel's verifier counts differently; there, loading is enough.
        match budgets().get(name) {
            _ if is_updating() || std::env::var_os("SVC_VERIFY_WITHOUT_BUDGET").is_some() => Ok(()),
            Some(budget) if verified <= *budget => Ok(()),
            Some(budget) => Err(format!("{verified} instructions, the budget is {budget}").into()),
            None => Err(format!("no budget: add `{name} N` to {}", budget_file().display()).into()),
        }
    }

    /// Every switch is on, so that read-only configuration hides no code from the verifier.
    fn ebpf(&mut self) -> Result<&mut Ebpf, Failed> {
        if self.ebpf.is_none() {
            let config = Config {
                snat_first: 1024,
                snat_count: 28_976,
                snat_ring: snat_ring(28_976),
                pod_sockets: PodSockets::WITHOUT_DAEMON,
                csum_ipv6_flag: 1,
                set_retval: 1,
                fib_source: 1,
                pods_by_source: 1,
                service_cidrs: 1,
                drops_unknown_ports: 1,
                pools: 1,
                _pad: [0; 2],
                host_netns: [1; 2],
                new_flow_interval: 5_000,
            };
            self.ebpf = Some(EbpfLoader::new().override_global("CONFIG", &config, true).load(OBJECT)?);
        }
        self.ebpf.as_mut().ok_or_else(|| "no object".into())
    }

    fn new_budgets(&self) -> String {
        self.measured.iter().fold(HEADER.to_owned(), |mut page, (name, verified)| {
            let _ = writeln!(page, "{name} {}", (verified * 5 / 4).next_multiple_of(100));
            page
        })
    }
}

fn budgets() -> BTreeMap<String, u32> {
    let page = std::fs::read_to_string(budget_file()).unwrap_or_default();
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            line.split_once(' ').and_then(|(name, budget)| Some((name.to_owned(), budget.parse().ok()?)))
        })
        .collect()
}

fn budget_file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verifier-budget.txt"))
}

fn is_updating() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}
