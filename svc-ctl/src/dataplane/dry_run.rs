//! A dry run: the result that the serving program would give for a packet.
//!
//! A second copy of the same program runs over the live tables of the plan. It has small tables of its own in place of all
//! that programs write, so it leaves no flow, no port, no session affinity and no count. Live entries that decide
//! about the packet are copied into those tables first. The copy is attached to nothing.

mod copy;
mod family;
mod serving;

use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail};
use svc_common::abi::*;
use svc_common::datapath::flow::twin_key;

use self::copy::ProgramCopy;
pub use self::family::{DryTables, FlowEntry, LiveFlows, Net};
use self::serving::attached_tag;
pub use self::serving::config as serving_config;
use super::carried::Carried;
use super::hooks::{TcHook, tcx_label};
use super::map_set::MapSet;
use super::maps::Maps;
use super::pins::Pins;
use super::sys;

/// The largest number of runs. Each run rules out source ports that other live flows have.
const MOST_RUNS: usize = 256;

/// The action of a program at TC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The stack gets the packet.
    Pass,
    Drop,
    /// The packet leaves by an interface, past the stack.
    Redirect,
}

/// Result of a dry run.
#[derive(Clone, Debug)]
pub struct DryRunResult<A> {
    pub action: Action,
    /// The packet after the program.
    pub packet: Vec<u8>,
    /// Counters that the run incremented.
    pub counted: Vec<Counter>,
    /// The packet's record: found or made.
    pub record: Option<FlowRecord<A>>,
    /// The second flow of a masquerade through the stack: its key and record.
    pub second: Option<FlowEntry<A>>,
    /// Source ports that other live flows have.
    pub ports_taken: usize,
}

impl<A> DryRunResult<A> {
    /// The program leaves this packet alone.
    pub fn passes(&self, packet: &[u8]) -> bool {
        self.action == Action::Pass && self.packet == packet
    }
}

/// A copy of one program, and its tables.
pub struct DryRun {
    pub live: Maps,
    pub config: Config,
    /// The attached program has other instructions than the copy: it is of another build.
    pub is_other_build: bool,
    live_set: MapSet,
    /// The live set with the flow tables that are being replaced, if any are.
    old_set: Option<MapSet>,
    copy: ProgramCopy,
}

impl DryRun {
    /// A copy of the program of this name, as it serves now at a hook of an interface. It stays pinned for the next answer,
    /// because the verifier needs half a second for it.
    pub fn of(pins: &Pins, program: &str, hook: TcHook, ifindex: u32) -> anyhow::Result<Self> {
        let live_set = MapSet::open(pins)?;
        let config = serving::config(pins)?;
        let old_set = old_set(pins, &live_set)?;
        let copy = ProgramCopy::of(pins, program, config, &live_set)?;
        let attached = attached_tag(pins, &tcx_label(hook, ifindex), program);
        let is_other_build = attached.is_some_and(|tag| tag != copy.tag);
        Ok(Self { live: Maps::of(&live_set)?, config, is_other_build, live_set, old_set, copy })
    }

    /// The record of a tuple in the live flow tables.
    pub fn record<F: Net>(&self, key: &FlowKey<F::Addr>) -> anyhow::Result<Option<FlowRecord<F::Addr>>> {
        LiveFlows::<F>::over(&self.live_set, self.old_set.as_ref())?.get(key)
    }

    /// Gives the copy back, and keeps the live tables.
    pub fn into_live(self) -> Maps {
        self.live
    }

    /// The socket hooks serve the sockets of all pods.
    pub fn serves_pod_sockets(&self) -> bool {
        self.config.pod_sockets == PodSockets::ON
    }

    /// Runs the program on a packet with this tuple that came by an interface. `client` is its session affinity entry, if any.
    pub fn run<F: Net>(
        &self,
        packet: &[u8],
        ifindex: u32,
        key: &FlowKey<F::Addr>,
        client: Option<AffinityKey<F::Addr>>,
    ) -> anyhow::Result<DryRunResult<F::Addr>> {
        self.copy.tables.check_apart(&self.live_set)?;
        let live = DryTables::<F>::over(&self.live_set)?;
        let flows = LiveFlows::<F>::over(&self.live_set, self.old_set.as_ref())?;
        let mut dry = DryTables::<F>::over(&self.copy.tables)?;
        dry.clear()?;
        copy_array(&self.live_set, &self.copy.tables, names::LEASE, Lease::COUNT)?;
        if let Ok(until) = live.bypass.get(key, 0) {
            dry.bypass.insert(key, until, 0)?;
        }
        if let Some((client, value)) = client.and_then(|key| Some((key, live.affinity.get(&key, 0).ok()?))) {
            dry.affinity.insert(client, value, 0)?;
        }
        let mut copied = Vec::new();
        // A server on the node may answer from another address than the one to which the record belongs.
        let wildcard = FlowKey { src: F::Addr::default(), ..*key };
        for key in [*key, wildcard] {
            let Some(record) = flows.get(&key)? else { continue };
            copied.push((key, record));
            let twin = twin_key::<F>(key.proto, &record);
            copied.extend(flows.get(&twin)?.map(|record| (twin, record)));
        }
        let known = copied.len();
        for _ in 0..MOST_RUNS {
            dry.replace_flows(&copied)?;
            let before = dry.counters()?;
            let (action, after) = sys::test_run(self.copy.program.as_fd(), packet, &sys::skb(ifindex), 0)
                .context("running the copy of the program")?;
            let made = dry.tuples()?;
            let is_copied = |key: &FlowKey<_>| copied.iter().any(|(copy, _)| copy == key);
            let mut taken = Vec::new();
            for key in made.iter().filter(|key| !is_copied(key)) {
                taken.extend(flows.get(key)?.map(|record| (*key, record)));
            }
            if !taken.is_empty() {
                copied.extend(taken);
                continue;
            }
            let action = match action {
                -1 | 0 => Action::Pass,
                2 => Action::Drop,
                7 => Action::Redirect,
                other => bail!("the program returned {other}, which is no action of svc"),
            };
            let counted = Counter::ALL
                .iter()
                .copied()
                .zip(before)
                .filter_map(|(counter, before)| (dry.counter(counter).ok()? > before).then_some(counter));
            let record = dry.flow(key);
            let second = record.and_then(|record| {
                let key = FlowKey {
                    src: record.src,
                    dst: record.dst,
                    sport: record.sport,
                    dport: record.dport,
                    ..*key
                };
                Some((key, dry.flow(&key).filter(|r| r.direction == Direction::FORWARD)?))
            });
            let counted = counted.collect();
            let ports_taken = copied.len() - known;
            return Ok(DryRunResult { action, packet: after, counted, record, second, ports_taken });
        }
        bail!("{MOST_RUNS} source ports in a row belong to other live flows")
    }
}

/// The live flow tables of a family.
pub fn live_flows<F: Net>(pins: &Pins) -> anyhow::Result<LiveFlows<F>> {
    let live = MapSet::open(pins)?;
    LiveFlows::over(&live, old_set(pins, &live)?.as_ref())
}

/// The live set with the flow tables that are being replaced, if any are.
fn old_set(pins: &Pins, live: &MapSet) -> anyhow::Result<Option<MapSet>> {
    let carried = Carried::in_use(pins, live)?;
    Ok((!carried.is_empty()).then(|| carried.instead(live)))
}

/// Copies the entries of an array of words.
fn copy_array(from: &MapSet, to: &MapSet, name: &'static str, count: u32) -> anyhow::Result<()> {
    for index in 0..count {
        let mut value = [0; 4];
        sys::look_up_entry(from.fd(name)?, &index.to_ne_bytes(), &mut value)?;
        sys::update_entry(to.fd(name)?, &index.to_ne_bytes(), &value)?;
    }
    Ok(())
}
