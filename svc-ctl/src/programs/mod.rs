//! Loads the kernel programs of this node, attaches them and keeps them attached, on a thread of their own. Nothing
//! else runs on that thread, so that a new pod's interface never waits for other work.

mod desired;
pub mod firewall;
mod flow_table;
mod hooks;
mod host;
pub mod lease;
mod masquerade_path;
mod replace;
mod requests;
mod thread;
mod xdp;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use svc_common::abi::PrefixList;
use tokio::sync::{mpsc, oneshot, watch};

use self::hooks::Hooks;
use self::requests::{Replacements, SwapTicket};
use self::thread::Channels;
use crate::config::Config;
use crate::dataplane::bpf::BpfStore;
use crate::dataplane::carried::Carried;
use crate::dataplane::features::{Features, ProgramSettings};
use crate::dataplane::lease::LeaseTable;
use crate::dataplane::links::{HookedTables, hooked_tables};
use crate::dataplane::load::Loaded;
use crate::dataplane::map_set::MapSet;
use crate::dataplane::pins::Pins;
use crate::dataplane::shapes::TableSizes;
use crate::dataplane::store::Growth;
use crate::dataplane::upgrade;
use crate::model::node::NodeAddresses;
use crate::node::watch::Observed;
use crate::observe::ledger::Ledger;
use crate::observe::status::InterfaceStatus;
use crate::plan::prefixes::LocalPods;

pub use self::flow_table::{FlowTableSize, default_flow_table};

/// Capacity of the channel for replies to requests for larger tables.
const ANSWERS: usize = 8;

/// State of the hooks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HooksStatus {
    /// Every hook has its program. If not, a complaint names the hook.
    pub is_attached: bool,
    pub interfaces: Vec<InterfaceStatus>,
    pub cgroup: String,
    /// Whether masqueraded packets go through the stack, and why.
    pub masquerade: String,
    /// Number of detached or unpinned things that were attached or pinned again, since the start.
    pub reattached: u64,
    pub features: Features,
    /// Counts replacements of maps. A reader of pinned maps opens them again when this changes.
    pub maps_generation: u64,
}

/// Replaces the programs of another version at the hooks that still run them.
pub type FirstSwap = Box<dyn FnMut() -> anyhow::Result<()> + Send>;

/// Handles to the programs' thread.
pub struct Started {
    pub store: BpfStore,
    pub growth: Growth<BpfStore>,
    /// To be called when the tables are filled. Until then hooks keep their programs of another version, since the
    /// tables of this version are empty. `None` if there are no such hooks.
    pub first_swap: Option<FirstSwap>,
    /// Available as soon as the interfaces have been listed.
    pub addresses: watch::Receiver<Option<NodeAddresses>>,
    pub pins: Pins,
    pub lease: Arc<LeaseTable>,
    /// Why the thread ended. The channel closes without a value if it panicked.
    pub ended: oneshot::Receiver<anyhow::Error>,
}

/// Opens or creates the pinned maps, and starts the thread that loads and attaches programs. The thread holds the
/// lock of the pins.
pub fn start(
    config: Config,
    cgroup: PathBuf,
    observed: watch::Receiver<Option<Observed>>,
    mut pools: watch::Receiver<bool>,
    hooks_out: watch::Sender<HooksStatus>,
    ledger: Ledger,
) -> anyhow::Result<Started> {
    let pins = Pins::open(&config.pin_dir)?;
    let lock = pins.lock()?;
    pins.remove_staging()?;
    let sizes = TableSizes { flows: config.flow_table_size, ..TableSizes::default() };
    let mut maps = MapSet::open_or_make(&pins, &sizes)?;
    let hooked = hooked_tables(&pins, &maps)?;
    match &hooked {
        HookedTables::TheSame => pins.remove_other_versions(),
        HookedTables::Mixed(names) => {
            let names: Vec<_> = names.iter().copied().collect();
            tracing::warn!(
                maps = names.join(", "),
                "hooks use other maps than the pinned ones; they keep their programs until copies of the tables are filled"
            );
            maps.separate(&pins)?;
        }
        HookedTables::Others(in_force) => {
            tracing::info!(
                "hooks keep the programs of another version until the tables of this version are filled"
            );
            maps = upgrade::begin(&pins, in_force, &sizes)?;
        }
    }
    upgrade::pin_layout(&pins)?;
    let defers = hooked != HookedTables::TheSame;
    let carried = Carried::pinned(&pins, &maps)?;
    let has_carried = !carried.is_empty();
    let store = BpfStore::over(&maps)?;
    // Pools of objects are known later. Where there were some before, the programs go on looking them up.
    let has_pools = *pools.borrow_and_update() || store.has_prefixes(PrefixList::POOLS);
    let settings = settings(&config, has_pools);
    let lease = Arc::new(LeaseTable::of(&maps)?);
    let loaded = Loaded::over(&pins, settings, maps, carried)?;

    let (addresses_out, addresses) = watch::channel(None);
    let (requests, inbox) = mpsc::unbounded_channel();
    let (ask, asked) = mpsc::unbounded_channel();
    let (staged_out, staged) = mpsc::channel(ANSWERS);
    let (ended_out, ended) = oneshot::channel();
    let replacements =
        Replacements::new(requests.clone(), staged_out, settings, config.flow_table_size, has_carried);
    let state = Hooks::new(config, cgroup, pins.clone(), lock, loaded, defers, ledger)?;
    let channels = Channels {
        observed,
        inbox,
        asked,
        has_pools: pools,
        hooks: hooks_out,
        addresses: addresses_out,
        lease: lease.clone(),
    };
    std::thread::Builder::new()
        .name("programs".to_owned())
        .spawn(move || {
            if let Err(err) = thread::run(state, replacements, channels) {
                // No receiver: the daemon is stopping.
                let _ = ended_out.send(err);
            }
        })
        .context("starting the programs' thread")?;
    let first_swap =
        defers.then(|| Box::new(move || SwapTicket::first(requests.clone()).swap()) as FirstSwap);
    Ok(Started { store, growth: Growth { ask, staged }, first_swap, addresses, pins, lease, ended })
}

fn settings(config: &Config, pools: bool) -> ProgramSettings {
    ProgramSettings {
        snat_ports: (config.snat_ports.first, config.snat_ports.count),
        pod_sockets: config.pod_sockets,
        pods_by_source: matches!(config.settings.local_pods, LocalPods::Within(_) | LocalPods::OfNode),
        drops_unknown_ports: config.drops_unknown_ports,
        pools,
        new_flow_limit: config.new_flow_limit,
        service_cidrs: config.reads_service_cidrs || !config.settings.service_cidrs.0.is_empty(),
    }
}
