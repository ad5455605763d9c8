//! A dry run: what the serving program would do with a packet.
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
pub use self::family::{DryTables, FlowEntry, Net};
pub use self::serving::config as serving_config;
use super::flows;
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

/// A copy of one program, and its tables.
pub struct DryRun {
    pub live: Maps,
    pub config: Config,
    live_set: MapSet,
    copy: ProgramCopy,
}

impl DryRun {
    /// A copy of the program of this name, as it serves now. It stays pinned for the next answer, because the verifier
    /// needs half a second for it.
    pub fn of(pins: &Pins, program: &str) -> anyhow::Result<Self> {
        let live_set = MapSet::open(&pins.maps())?;
        let config = serving::config(pins)?;
        let copy = ProgramCopy::of(pins, program, config, &live_set)?;
        Ok(Self { live: Maps::of(&live_set)?, config, live_set, copy })
    }

    /// The socket hooks serve the sockets of pods: always, or because the daemon's lease has ended.
    pub fn serves_pod_sockets(&self) -> anyhow::Result<bool> {
        let mut until = [0; 4];
        let place = (Lease::Until as u32).to_ne_bytes();
        sys::look_up_entry(self.live_set.fd(names::LEASE)?, &place, &mut until).context("reading LEASE")?;
        Ok(match self.config.pod_sockets {
            PodSockets::ON => true,
            PodSockets::WITHOUT_DAEMON => !is_held(u32::from_ne_bytes(until), flows::now()),
            _ => false,
        })
    }

    /// Runs the program on a packet with this tuple that came by an interface. `client` is its session affinity entry, if any.
    pub fn run<F: Net>(
        &self,
        packet: &[u8],
        ifindex: u32,
        key: &FlowKey<F::Addr>,
        client: Option<AffinityKey<F::Addr>>,
    ) -> anyhow::Result<DryRunResult<F::Addr>> {
        let live = DryTables::<F>::over(&self.live_set)?;
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
        if let Ok(record) = live.flows.get(key, 0) {
            copied.push((*key, record));
            let twin = twin_key::<F>(key.proto, &record);
            copied.extend(live.flows.get(&twin, 0).ok().map(|record| (twin, record)));
        }
        let known = copied.len();
        for _ in 0..MOST_RUNS {
            dry.replace_flows(&copied)?;
            let before = dry.counters()?;
            let (action, after) = sys::test_run(self.copy.program.as_fd(), packet, &sys::skb(ifindex), 0)
                .context("running the copy of the program")?;
            let made: Vec<_> = dry.flows.keys().collect::<Result<_, _>>()?;
            let is_copied = |key: &FlowKey<_>| copied.iter().any(|(copy, _)| copy == key);
            let taken: Vec<_> = made
                .iter()
                .filter(|key| !is_copied(key))
                .filter_map(|key| Some((*key, live.flows.get(key, 0).ok()?)))
                .collect();
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
            let record = dry.flows.get(key, 0).ok();
            let second = record.and_then(|record| {
                let key = FlowKey {
                    src: record.src,
                    dst: record.dst,
                    sport: record.sport,
                    dport: record.dport,
                    ..*key
                };
                Some((key, dry.flows.get(&key, 0).ok().filter(|r| r.direction == Direction::FORWARD)?))
            });
            let counted = counted.collect();
            let ports_taken = copied.len() - known;
            return Ok(DryRunResult { action, packet: after, counted, record, second, ports_taken });
        }
        bail!("{MOST_RUNS} source ports in a row belong to other live flows")
    }
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
