//! Nanoseconds per packet of the XDP path and of the programs at TC, beside lower bounds measured in the same process and round (`cargo xtask
//! bench datapath`).
//!
//! Usage: `datapath --floors OBJECT [--rounds N] [--packets N] [--frontends N] [--object OBJECT] [--report FILE]`, as root. Prints its part of docs/performance.md.

mod cases;
mod node;
mod packet;
mod pools;
mod questions;
mod report;
mod tables;
mod tc;
mod wrapper;

use std::fs;

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use svc_common::abi::{Config, limits};
use svc_common::datapath::select::snat_ring;
use svc_common::family::{V4, V6};
use svc_ctl::dataplane::object::OBJECT;

use cases::{Case, FamilySetup, Product};
use tables::Maps as _;
use wrapper::{At, Flows, MANY, Wrapper};

#[derive(Parser)]
struct Args {
    /// The object of svc-bench
    #[arg(long)]
    floors: std::path::PathBuf,
    /// Rounds over all cases
    #[arg(long, default_value_t = 150)]
    rounds: usize,
    /// Timed packets per case and round
    #[arg(long, default_value_t = 100_000)]
    packets: u32,
    /// Programs to measure instead of this build's
    #[arg(long)]
    object: Option<std::path::PathBuf>,
    /// Other Services in the tables
    #[arg(long, default_value_t = 0)]
    frontends: u32,
    /// Also write the samples' quantiles into this file, as JSON
    #[arg(long)]
    report: Option<std::path::PathBuf>,
    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let cpu = pin()?;
    let uplink = node::enter()?;
    let object = fs::read(&args.floors).with_context(|| args.floors.display().to_string())?;
    let mut wrapper = Wrapper::load(&object, uplink)?;
    let object = args.object.as_ref().map(|path| fs::read(path).with_context(|| path.display().to_string()));
    let object = object.transpose()?;
    let object = object.as_deref().unwrap_or(OBJECT);
    let others = args.frontends;
    // Room for all flows at once, before they are assured.
    let many = Settings { unassured: limits::FLOWS, ..Settings::default() };
    let mut established = product(object, &mut wrapper, uplink, others, many)?;
    let mut flooded = product(object, &mut wrapper, uplink, others, Settings::default())?;

    // Tables of their own: 64k flows more would evict those of XDP.
    let mut pods = product(object, &mut wrapper, uplink, others, many)?;
    let pools = Settings { has_pools: true, ..Settings::default() };
    let limit = Settings { new_flow_interval: 1_000_000_000, ..Settings::default() };
    let mut limited = product(object, &mut wrapper, uplink, others, limit)?;
    let mut with_pools = product(object, &mut wrapper, uplink, others, pools)?;

    let mut cases = Vec::new();
    for (name, family, list) in [("IPv4", "4", 0), ("IPv6", "6", 8)] {
        let mut floor = |name: &str| wrapper.add_floor(&format!("{name}{family}"));
        let (turn, lookup, insert) = (floor("turn")?, floor("lookup")?, floor("insert")?);
        let floors = [wrapper.add_floor("empty")?, turn, lookup, insert];
        let tc_floors = [wrapper.add_floor("empty_tc")?, wrapper.add_floor(&format!("lookup_tc{family}"))?];
        let (xdp, tc, one) =
            if family == "4" { ("restore4", "restore_tc4", 1.3) } else { ("restore6", "restore_tc6", 1.4) };
        let setup = FamilySetup { name, wrapper: xdp, floors, tc_floors, tc_wrapper: tc, list, one };
        cases.extend(match family {
            "4" => cases::prepare::<V4>(&setup, &mut wrapper, &mut established, &mut flooded, &mut limited)?,
            _ => cases::prepare::<V6>(&setup, &mut wrapper, &mut established, &mut flooded, &mut limited)?,
        });
        cases.extend(match family {
            "4" => tc::prepare::<V4>(&setup, &mut wrapper, &mut pods)?,
            _ => tc::prepare::<V6>(&setup, &mut wrapper, &mut pods)?,
        });
        cases.extend(match family {
            "4" => questions::prepare::<V4>(&setup, &mut wrapper, &mut flooded)?,
            _ => questions::prepare::<V6>(&setup, &mut wrapper, &mut flooded)?,
        });
        cases.extend(match family {
            "4" => pools::prepare::<V4>(&setup, &mut wrapper, &mut with_pools)?,
            _ => pools::prepare::<V6>(&setup, &mut wrapper, &mut with_pools)?,
        });
    }
    eprintln!("{} cases proven; {} rounds", cases.len(), args.rounds);

    let idle = busy_ticks(cpu);
    let samples = measure(&mut wrapper, &cases, &args)?;
    let busy = share(idle, busy_ticks(cpu));
    if let Some(path) = &args.report {
        let text = report::json(&cases, &samples, args.frontends, busy)?;
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    print!("{}", report::page(&cases, &samples, args.packets, busy));
    Ok(())
}

/// Differences between the loaded products.
#[derive(Clone, Copy)]
struct Settings {
    has_pools: bool,
    /// Records of unassured flows per family.
    unassured: u32,
    /// Nanoseconds between two new flows; 0: no limit.
    new_flow_interval: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { has_pools: false, unassured: limits::UNASSURED, new_flow_interval: 0 }
    }
}

fn product(
    object: &[u8],
    wrapper: &mut Wrapper,
    uplink: u32,
    frontends: u32,
    settings: Settings,
) -> Result<Product> {
    let config = Config {
        snat_first: 1024,
        snat_count: 28_976,
        snat_ring: snat_ring(28_976),
        csum_ipv6_flag: 1,
        set_retval: 1,
        pools: settings.has_pools.into(),
        new_flow_interval: settings.new_flow_interval,
        ..Config::default()
    };
    let (mut ebpf, xdp, programs) = wrapper::load_product(object, &config, frontends, settings.unassured)?;
    tables::fill_common(&mut ebpf, uplink)?;
    V4::fill(&mut ebpf, frontends)?;
    V6::fill(&mut ebpf, frontends)?;
    let mut tc = [0; 4];
    for (index, program) in tc.iter_mut().zip(&programs) {
        *index = wrapper.add(At::Tc, program)?;
    }
    Ok(Product { ebpf, program: wrapper.add(At::Xdp, &xdp)?, tc })
}

fn measure(wrapper: &mut Wrapper, cases: &[Case], args: &Args) -> Result<report::Samples> {
    let mut samples = vec![Vec::with_capacity(args.rounds); cases.len()];
    for round in 0..args.rounds {
        for (case, samples) in cases.iter().zip(&mut samples) {
            let warm_up = if case.setting.flows == Flows::Many { MANY } else { 1000 };
            wrapper.run(&case.setting, warm_up)?;
            let took = wrapper.run(&case.setting, args.packets)?;
            samples.push(took.as_nanos() as f64);
        }
        eprint!("\rround {}", round + 1);
    }
    eprintln!();
    Ok(samples)
}

/// Stays on the last CPU, which usually gets no interrupts, with real-time priority.
fn pin() -> Result<usize> {
    let cpu = std::thread::available_parallelism()?.get() - 1;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the struct outlives the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) } != 0 {
        eprintln!("no real-time priority: {}", std::io::Error::last_os_error());
    }
    Ok(cpu)
}

/// Busy and all ticks of the CPUs other than ours.
fn busy_ticks(own: usize) -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let others = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    let others = others.filter(|line| !line.starts_with(&format!("cpu{own} ")));
    others.fold((0, 0), |(busy, all), line| {
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        let total: u64 = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        (busy + total - idle, all + total)
    })
}

fn share(before: (u64, u64), after: (u64, u64)) -> f64 {
    (after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64
}
