//! User space of the restoring wrapper: loads it, configures it for a case, runs it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{Program, ProgramFd, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp};
use aya::{Ebpf, EbpfLoader};

use svc_common::abi::{limits, names};

use crate::packet::LEN;
use crate::tables::map;

/// As in svc-ebpf/src/bench.rs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    count: u32,
    base: u32,
    mask: u32,
    fresh: u32,
    program: u32,
}

/// Octets that differ between one packet of a case and the next.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub addr: [u8; 4],
    pub sport: [u8; 2],
    pub dport: [u8; 2],
}

// SAFETY: repr(C), integers only, no padding.
unsafe impl aya::Pod for Progress {}
// SAFETY: repr(C), octets only.
unsafe impl aya::Pod for Variant {}

/// A kind of hook.
#[derive(Clone, Copy, Debug)]
pub enum At {
    Xdp,
    Tc,
}

/// The programs at TC that are measured. Those of tunnels are not: a test run always has an Ethernet header.
pub const TC_PROGRAMS: [&str; 4] = ["pod_ingress", "pod_egress", "uplink_ingress", "uplink_egress"];

/// Variants per list.
pub const MANY: u32 = 65_536;

/// Differences between the packets of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    One,
    Many,
    /// Every packet begins a flow.
    Fresh,
}

/// Configuration of the wrapper.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `restore4` or `restore6`, or the same for TC.
    pub wrapper: &'static str,
    pub template: [u8; LEN],
    /// Index of the list of variants.
    pub list: u32,
    pub flows: Flows,
    /// Index of the program under test.
    pub program: u32,
}

pub struct Wrapper {
    pub ebpf: Ebpf,
    progress: Array<MapData, Progress>,
    template: Array<MapData, [u8; LEN]>,
    variants: Array<MapData, Variant>,
    /// Programs under test: at XDP, at TC.
    under_test: [ProgramArray<MapData>; 2],
    programs: u32,
    /// Next fresh flow, by case.
    fresh: std::collections::HashMap<u32, u32>,
    /// `struct xdp_md` and `struct __sk_buff`.
    contexts: [Vec<u8>; 2],
}

impl Wrapper {
    pub fn load(object: &[u8], uplink: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object).context("the bench's maps")?;
        for (name, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::SchedClassifier(program) => program.load(),
                program => <&mut Xdp>::try_from(program)?.load(),
            };
            loaded.map_err(|err| anyhow::anyhow!("{name}: {err}"))?;
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let (progress, template) = (take("PROGRESS")?.try_into()?, take("TEMPLATE")?.try_into()?);
        let variants = take("VARIANTS")?.try_into()?;
        let under_test = [take("UNDER_TEST")?.try_into()?, take("UNDER_TEST_TC")?.try_into()?];
        let (mut context, mut skb) = (vec![0; 24], vec![0; 44]);
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, ...
        context[4..8].copy_from_slice(&(LEN as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&uplink.to_ne_bytes());
        // struct __sk_buff: ten words, ifindex, ...
        skb[40..44].copy_from_slice(&uplink.to_ne_bytes());
        let (fresh, contexts) = (Default::default(), [context, skb]);
        Ok(Self { ebpf, progress, template, variants, under_test, programs: 0, fresh, contexts })
    }

    /// Adds a program to the programs under test, and returns its index.
    pub fn add(&mut self, hook: At, program: &ProgramFd) -> Result<u32> {
        let index = self.programs;
        self.under_test[hook as usize].set(index, program, 0)?;
        self.programs += 1;
        Ok(index)
    }

    /// Adds one of the bench's own programs to the programs under test.
    pub fn add_floor(&mut self, name: &str) -> Result<u32> {
        let (hook, fd) = match self.ebpf.program(name).with_context(|| format!("no program {name}"))? {
            Program::SchedClassifier(program) => (At::Tc, program.fd()?.try_clone()?),
            program => (At::Xdp, <&Xdp>::try_from(program)?.fd()?.try_clone()?),
        };
        self.add(hook, &fd)
    }

    pub fn set_variants(&mut self, list: u32, variants: impl Iterator<Item = Variant>) -> Result<()> {
        let mut number = 0;
        for variant in variants.take(MANY as usize) {
            self.variants.set(list * MANY + number, variant, 0)?;
            number += 1;
        }
        ensure!(number == MANY, "list {list} has only {number} variants");
        Ok(())
    }

    /// The first packet of a case: the program's action and the resulting packet.
    pub fn first(&mut self, setting: &Setting) -> Result<(u32, [u8; LEN])> {
        self.set(setting)?;
        let mut out = [0; LEN];
        let result =
            self.test_run(setting, TestRunOptions { data_out: Some(&mut out), ..Default::default() })?;
        self.remember(setting)?;
        ensure!(result.data_size_out as usize == LEN, "{} octets came out", result.data_size_out);
        Ok((result.return_value, out))
    }

    /// Runs that many packets and returns the time of one, without time in which other processes had the CPU.
    pub fn run(&mut self, setting: &Setting, packets: u32) -> Result<Duration> {
        self.set(setting)?;
        let result = self.test_run(setting, TestRunOptions { repeat: packets, ..Default::default() })?;
        self.remember(setting)?;
        Ok(result.duration)
    }

    fn test_run(&self, setting: &Setting, options: TestRunOptions<'_>) -> Result<TestRunResult> {
        let name = setting.wrapper;
        let program = self.ebpf.program(name).with_context(|| format!("no program {name}"))?;
        let [xdp, skb] = &self.contexts;
        let options = TestRunOptions { data_in: Some(&setting.template), ..options };
        Ok(match program {
            Program::SchedClassifier(program) => {
                program.test_run(TestRunOptions { ctx_in: Some(skb), ..options })?
            }
            program => {
                <&Xdp>::try_from(program)?.test_run(TestRunOptions { ctx_in: Some(xdp), ..options })?
            }
        })
    }

    fn set(&mut self, setting: &Setting) -> Result<()> {
        let count = match setting.flows {
            Flows::Fresh => *self.fresh.entry(setting.program).or_default(),
            Flows::One | Flows::Many => 0,
        };
        let progress = Progress {
            count,
            base: setting.list * MANY,
            mask: if setting.flows == Flows::One { 0 } else { MANY - 1 },
            fresh: (setting.flows == Flows::Fresh).into(),
            program: setting.program,
        };
        self.progress.set(0, progress, 0)?;
        Ok(self.template.set(0, setting.template, 0)?)
    }

    fn remember(&mut self, setting: &Setting) -> Result<()> {
        if setting.flows == Flows::Fresh {
            self.fresh.insert(setting.program, self.progress.get(&0, 0)?.count);
        }
        Ok(())
    }
}

/// Loads the product's object again, with maps of its own and room for this many frontends and records of unassured flows,
/// and returns its XDP program and those at TC.
pub fn load_product(
    object: &[u8],
    config: &svc_common::abi::Config,
    frontends: u32,
    unassured: u32,
) -> Result<(Ebpf, ProgramFd, Vec<ProgramFd>)> {
    let mut loader = EbpfLoader::new();
    for name in [names::FRONTENDS4, names::FRONTENDS6, names::ADDRESSES4, names::ADDRESSES6] {
        loader.map_max_entries(name, limits::ADDRESSES.max(2 * frontends));
    }
    for name in [names::UNASSURED4, names::UNASSURED6] {
        loader.map_max_entries(name, unassured);
    }
    let mut ebpf = loader.override_global("CONFIG", config, true).load(object).context("svc's maps")?;
    map(&mut ebpf, names::COUNTERS)?;
    let program: &mut Xdp = ebpf.program_mut("uplink_xdp").context("no program uplink_xdp")?.try_into()?;
    program.load()?;
    let xdp = program.fd()?.try_clone()?;
    let mut tc = Vec::new();
    for name in TC_PROGRAMS {
        let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        tc.push(program.fd()?.try_clone()?);
    }
    Ok((ebpf, xdp, tc))
}
