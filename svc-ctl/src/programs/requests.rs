//! Replacements in progress: one at a time, prepared on another thread and swapped on the programs' own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use svc_common::abi::Migration;
use tokio::sync::mpsc;

use super::hooks::{Hooks, failed};
use super::replace::{Plan, Replacement};
use crate::dataplane::bpf::BpfStore;
use crate::dataplane::carried::{Carried, set_migration};
use crate::dataplane::features::ProgramSettings;
use crate::dataplane::maps::Maps;
use crate::dataplane::shapes::TableSizes;
use crate::dataplane::store::Staged;
use crate::plan::capacity::Capacity;

/// Receives the outcome.
pub type Reply = Sender<anyhow::Result<()>>;

/// Requests to the programs' thread.
pub enum Request {
    /// A replacement is ready or has failed.
    Prepared(anyhow::Result<Box<Replacement>>),
    /// The replacement's tables are filled.
    Swap(Reply),
    /// The tables of this version are filled.
    FirstSwap(Reply),
    /// The replacement will not be swapped.
    Abandon,
    /// The records of old flow tables are copied.
    Copied(anyhow::Result<u64>),
}

/// Permission to ask for one swap.
pub struct SwapTicket {
    requests: mpsc::UnboundedSender<Request>,
    request: fn(Reply) -> Request,
    /// A replacement waits for this ticket.
    is_open: bool,
}

impl SwapTicket {
    /// A ticket for the hooks of another version.
    pub fn first(requests: mpsc::UnboundedSender<Request>) -> Self {
        Self { requests, request: Request::FirstSwap, is_open: false }
    }

    /// A ticket for a replacement, which is abandoned if the ticket is dropped unused.
    fn growth(requests: mpsc::UnboundedSender<Request>) -> Self {
        Self { requests, request: Request::Swap, is_open: true }
    }

    /// Asks for the swap and waits for the outcome.
    pub fn swap(mut self) -> anyhow::Result<()> {
        let gone = || anyhow::anyhow!("the programs' thread has ended");
        let (reply, outcome) = channel();
        self.is_open = false;
        self.requests.send((self.request)(reply)).map_err(|_| gone())?;
        outcome.recv().map_err(|_| gone())?
    }
}

impl Drop for SwapTicket {
    fn drop(&mut self) {
        if self.is_open {
            // If the thread has ended, there is nothing to abandon.
            let _ = self.requests.send(Request::Abandon);
        }
    }
}

/// Progress of the current replacement.
enum Step {
    Idle,
    Preparing {
        is_growth: bool,
    },
    /// The reconcile loop fills the tables.
    Filling(Box<Replacement>),
    Copying,
}

/// Requested replacements, and the one in progress.
pub struct Replacements {
    requests: mpsc::UnboundedSender<Request>,
    staged: mpsc::Sender<Result<Staged<BpfStore>, String>>,
    settings: ProgramSettings,
    /// Requested number of records in each family's flow table.
    flows: u32,
    /// Larger flow tables could not be made.
    gives_up_flows: bool,
    /// Programs with the present settings could not be loaded.
    gives_up_settings: bool,
    asked: Option<Capacity>,
    /// Programs still read old flow tables whose records are all copied.
    has_leftovers: bool,
    step: Step,
}

impl Replacements {
    pub fn new(
        requests: mpsc::UnboundedSender<Request>,
        staged: mpsc::Sender<Result<Staged<BpfStore>, String>>,
        settings: ProgramSettings,
        flows: u32,
        has_leftovers: bool,
    ) -> Self {
        let step = Step::Idle;
        Self {
            requests,
            staged,
            settings,
            flows,
            gives_up_flows: false,
            gives_up_settings: false,
            asked: None,
            has_leftovers,
            step,
        }
    }

    /// Requests larger tables for the reconcile loop.
    pub fn ask(&mut self, capacity: Capacity, hooks: &Hooks) {
        self.asked = Some(self.asked.map_or(capacity, |before| before.max(capacity)));
        self.advance(hooks);
    }

    /// There are load-balancer pools now: requests programs that look them up. They go on looking until the next start.
    pub fn look_up_pools(&mut self, hooks: &Hooks) {
        self.gives_up_settings &= self.settings.pools;
        self.settings.pools = true;
        self.advance(hooks);
    }

    /// Requests the replacements that an earlier daemon did not finish, and flow tables of the configured size.
    pub fn start(&mut self, hooks: &Hooks) {
        match hooks.loaded.carried().is_empty() {
            true => self.advance(hooks),
            false => self.copy(hooks, hooks.loaded.carried().clone()),
        }
    }

    pub fn take(&mut self, request: Request, hooks: &mut Hooks) {
        match request {
            Request::Prepared(prepared) => self.prepared(prepared, hooks),
            Request::Swap(reply) => {
                let outcome = match std::mem::replace(&mut self.step, Step::Idle) {
                    Step::Filling(replacement) => self.swap(*replacement, hooks),
                    other => {
                        self.step = other;
                        Err(anyhow::anyhow!("there is nothing to swap"))
                    }
                };
                let _ = reply.send(outcome);
            }
            Request::FirstSwap(reply) => {
                let _ = reply.send(hooks.swap_first());
            }
            Request::Abandon => {
                if matches!(self.step, Step::Filling(_)) {
                    self.step = Step::Idle;
                }
            }
            Request::Copied(copied) => self.copied(copied, hooks),
        }
        self.advance(hooks);
    }

    /// Begins the next replacement if none is in progress.
    fn advance(&mut self, hooks: &Hooks) {
        if !matches!(self.step, Step::Idle) {
            return;
        }
        let current = hooks.maps().sizes();
        let flows = if self.gives_up_flows { current.flows } else { self.flows };
        let capacity = self.asked.map_or(current.capacity, |asked| current.capacity.max(asked));
        let is_growth = self.asked.take().is_some();
        // Filling this version's tables may need larger tables. Everything else can wait until they are filled.
        let has_settings = hooks.loaded.has(self.settings) || self.gives_up_settings;
        let is_due = !hooks.links.defers && (flows != current.flows || self.has_leftovers || !has_settings);
        if !is_growth && !is_due {
            return;
        }
        self.step = Step::Preparing { is_growth };
        let plan = Plan {
            pins: hooks.pins.clone(),
            settings: self.settings,
            maps: hooks.maps().clone(),
            programs_dir: hooks.loaded.dir().clone(),
            sizes: TableSizes { capacity, flows },
            programs: hooks.needed_programs(),
        };
        let requests = self.requests.clone();
        std::thread::spawn(move || {
            let prepared = catch_unwind(AssertUnwindSafe(|| Replacement::prepare(plan).map(Box::new)));
            let prepared = prepared.unwrap_or_else(|_| Err(anyhow::anyhow!("preparing it panicked")));
            // If the thread has ended, it needs no replacement.
            let _ = requests.send(Request::Prepared(prepared));
        });
    }

    fn prepared(&mut self, prepared: anyhow::Result<Box<Replacement>>, hooks: &mut Hooks) {
        let is_growth = matches!(self.step, Step::Preparing { is_growth: true });
        self.step = Step::Idle;
        let outcome = prepared.and_then(|replacement| {
            if !is_growth {
                return self.swap(*replacement, hooks);
            }
            let store = BpfStore(Maps::of(replacement.maps())?);
            let ticket = SwapTicket::growth(self.requests.clone());
            self.step = Step::Filling(replacement);
            self.answer(Ok(Staged { store, swap: Box::new(move || ticket.swap()) }));
            Ok(())
        });
        if let Err(err) = &outcome {
            self.gives_up_flows |= self.flows != hooks.maps().sizes().flows;
            self.gives_up_settings |= !hooks.loaded.has(self.settings);
            self.has_leftovers = false;
            if is_growth {
                self.answer(Err(format!("{err:#}")));
            }
        }
        hooks.note("replacement", outcome.err().map(|err| failed("larger tables", &err)));
        hooks.complain();
    }

    fn answer(&self, staged: Result<Staged<BpfStore>, String>) {
        // If the requester is gone, the ticket is dropped and with it the replacement.
        let _ = self.staged.try_send(staged);
    }

    fn swap(&mut self, replacement: Replacement, hooks: &mut Hooks) -> anyhow::Result<()> {
        let carried = replacement.swap(hooks)?;
        self.has_leftovers = false;
        tracing::info!(sizes = ?hooks.maps().sizes(), "replaced programs and tables");
        match carried.is_empty() {
            true => self.clean(hooks),
            false => self.copy(hooks, carried),
        }
        Ok(())
    }

    /// Removes the replaced programs.
    fn clean(&self, hooks: &Hooks) {
        if let Err(err) = hooks.pins.remove_other_programs(hooks.loaded.dir()) {
            tracing::warn!("cannot unpin replaced programs: {err:#}");
        }
    }

    fn copy(&mut self, hooks: &Hooks, carried: Carried) {
        self.step = Step::Copying;
        self.clean(hooks);
        let (maps, requests) = (hooks.maps().clone(), self.requests.clone());
        std::thread::spawn(move || {
            let copied = catch_unwind(AssertUnwindSafe(|| carried.copy_into(&maps)));
            let copied = copied.unwrap_or_else(|_| Err(anyhow::anyhow!("copying panicked")));
            let _ = requests.send(Request::Copied(copied));
        });
    }

    fn copied(&mut self, copied: anyhow::Result<u64>, hooks: &mut Hooks) {
        self.step = Step::Idle;
        self.has_leftovers = true;
        let copied = copied.and_then(|records| {
            set_migration(hooks.maps(), Migration::NONE)?;
            hooks.loaded.carried().unpin(&hooks.pins.records());
            tracing::info!(records, "copied the flows of the old table");
            Ok(())
        });
        hooks.note("flows", copied.err().map(|err| failed("flow table", &err)));
        hooks.complain();
    }
}
