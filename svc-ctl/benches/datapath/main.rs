//! Nanoseconds per packet of the XDP path, beside lower bounds measured in the same process and round (`cargo xtask
//! bench datapath`).
//!
//! Usage: `datapath --floors OBJECT [--rounds N] [--packets N]`, as root. Prints its part of docs/performance.md.

mod cases;
mod node;
mod packet;
mod report;
mod tables;
mod wrapper;

use std::fs;

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use svc_common::abi::Config;
use svc_common::datapath::select::snat_ring;
use svc_common::family::{V4, V6};
use svc_ctl::dataplane::object::OBJECT;

use cases::{Case, Product, Side};
use tables::Maps as _;
use wrapper::{Flows, MANY, Wrapper};

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
    let mut established = product(&mut wrapper, uplink)?;
    let mut flooded = product(&mut wrapper, uplink)?;

    let mut cases = Vec::new();
    for (name, family, list) in [("IPv4", "4", 0), ("IPv6", "6", 3)] {
        let mut floor = |name: &str| wrapper.add_floor(&format!("{name}{family}"));
        let (turn, lookup, insert) = (floor("turn")?, floor("lookup")?, floor("insert")?);
        let floors = [wrapper.add_floor("empty")?, turn, lookup, insert];
        let wrapper_name = if family == "4" { "restore4" } else { "restore6" };
        let side = Side { name, wrapper: wrapper_name, floors, list };
        cases.extend(match family {
            "4" => cases::prepare::<V4>(&side, &mut wrapper, &mut established, &mut flooded)?,
            _ => cases::prepare::<V6>(&side, &mut wrapper, &mut established, &mut flooded)?,
        });
    }
    eprintln!("{} cases proven; {} rounds", cases.len(), args.rounds);

    let idle = busy_ticks(cpu);
    let samples = measure(&mut wrapper, &cases, &args)?;
    let busy = share(idle, busy_ticks(cpu));
    print!("{}", report::page(&cases, &samples, args.packets, busy));
    Ok(())
}

fn product(wrapper: &mut Wrapper, uplink: u32) -> Result<Product> {
    let config = Config {
        snat_first: 1024,
        snat_count: 28_976,
        snat_ring: snat_ring(28_976),
        csum_ipv6_flag: 1,
        set_retval: 1,
        ..Config::default()
    };
    let (mut ebpf, program) = wrapper::load_product(OBJECT, &config)?;
    tables::fill_common(&mut ebpf, uplink)?;
    V4::fill(&mut ebpf)?;
    V6::fill(&mut ebpf)?;
    Ok(Product { ebpf, program: wrapper.add(&program)? })
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
