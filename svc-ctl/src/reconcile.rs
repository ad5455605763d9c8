//! The loop that makes the kernel's tables agree with the sources: wait, plan the change, write, publish.
//!
//! The first change is handled at once; changes that arrive in the meantime are handled together. A refused write is
//! retried later and does not stop other writes. Nothing is written until every source has listed its objects. Until
//! then the restored tables stay in force.

mod backlog;
mod channels;
mod durations;
mod loop_settings;
pub mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::backlog::{Backlog, OpCounts};
pub use self::channels::{FirstSwap, Inputs, Outputs};
pub use self::durations::Durations;
pub use self::loop_settings::LoopSettings;
pub use self::progress::{Changed, InForce, Progress, Served, TableSize, unix_ms};
use crate::dataplane::store::{MapStore, Staged};
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::model::name::ServiceName;
use crate::model::node::NodeAddresses;
use crate::model::store::Store;
use crate::model::world::World;
use crate::plan::book::{Book, Changes};
use crate::plan::capacity::Capacity;
use crate::plan::settings::Settings;
use crate::plan::time::PlanTime;
use crate::source::event::{Batch, Event, SourceEvent};

/// Interval between comparisons of all tables with the kernel.
const COMPARE_PERIOD: Duration = Duration::from_secs(30);
/// Pause after the tables could not be read at start.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Pause after the hooks could not be moved to the new tables.
const SWAP_PAUSE: Duration = Duration::from_secs(1);
/// Pause after larger tables could not be made.
const GROWTH_PAUSE: Duration = Duration::from_secs(60);
/// Maximum number of refused writes that are named.
const NAMED_WRITES: usize = 10;

/// Runs for ever. Dropping it leaves no half-done write.
pub async fn run<S: MapStore>(inputs: Inputs<S>, store: S, options: LoopSettings, outputs: Outputs) {
    let Inputs { mut events, mut addresses, mut settings, growth, first_swap } = inputs;
    let mut state = Reconciler::new(store, options, settings.borrow_and_update().clone(), outputs);
    state.ask = growth.as_ref().map(|growth| growth.ask.clone());
    state.first_swap = first_swap;
    let mut staged = growth.map(|growth| growth.staged);
    state.set_addresses(addresses.borrow_and_update().clone());
    state.turn();
    loop {
        let wake = state.wake_at();
        tokio::select! {
            Some(batch) = events.recv() => state.take(batch),
            Ok(()) = addresses.changed() => state.set_addresses(addresses.borrow_and_update().clone()),
            Ok(()) = settings.changed() => state.set_settings(settings.borrow_and_update().clone()),
            Some(answer) = receive(&mut staged) => state.replace(answer),
            () = tokio::time::sleep_until(wake) => {}
        }
        while let Ok(batch) = events.try_recv() {
            state.take(batch);
        }
        state.turn();
    }
}

/// Pends for ever without a channel.
async fn receive<T>(channel: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match channel {
        Some(channel) => channel.recv().await,
        None => std::future::pending().await,
    }
}

/// The event is about an object, not about a list.
const fn is_object<T>(event: &Event<T>) -> bool {
    match event {
        Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => true,
        Event::Init | Event::InitDone => false,
    }
}

struct Reconciler<S> {
    store: S,
    options: LoopSettings,
    settings: Settings,
    /// The book has planned nothing with them yet.
    has_new_settings: bool,
    outputs: Outputs,
    progress: Progress,
    model: Store,
    knows_addresses: bool,
    /// `None` until the tables have been read.
    book: Option<Book>,
    /// The world that the book has planned.
    planned: Option<World>,
    backlog: Backlog,
    ask: Option<mpsc::UnboundedSender<Capacity>>,
    first_swap: Option<FirstSwap>,
    /// The first swap has failed, and is tried again then.
    next_swap: Option<Instant>,
    /// Larger tables are being made.
    is_growing: bool,
    no_growth_before: Instant,
    /// Services without room while larger tables are being made.
    no_room: BTreeMap<ServiceName, Vec<Complaint>>,
    start: Instant,
    next_compare: Instant,
    next_read: Instant,
}

impl<S: MapStore> Reconciler<S> {
    fn new(store: S, options: LoopSettings, settings: Settings, outputs: Outputs) -> Self {
        let start = Instant::now();
        let model = Store::new(&options.node_name).serving_external_ips(options.serves_external_ips);
        Self {
            store,
            model: if options.keeps_names { model.with_names() } else { model },
            knows_addresses: false,
            options,
            settings,
            has_new_settings: false,
            outputs,
            progress: Progress::default(),
            book: None,
            planned: None,
            backlog: Backlog::default(),
            ask: None,
            first_swap: None,
            next_swap: None,
            is_growing: false,
            no_growth_before: start,
            no_room: BTreeMap::new(),
            start,
            next_compare: start + COMPARE_PERIOD,
            next_read: start,
        }
    }

    fn set_addresses(&mut self, addresses: Option<NodeAddresses>) {
        if let Some(addresses) = addresses {
            self.knows_addresses = true;
            self.model.set_addresses(addresses);
        }
    }

    fn set_settings(&mut self, settings: Settings) {
        self.has_new_settings |= self.settings != settings;
        self.settings = settings;
    }

    fn take(&mut self, batch: Batch) {
        for event in batch {
            match &event {
                SourceEvent::Service(event) => self.progress.changes.services += u64::from(is_object(event)),
                SourceEvent::Slice(event) => self.progress.changes.slices += u64::from(is_object(event)),
                SourceEvent::Node(_) => {}
            }
            self.model.take(event);
        }
    }

    fn now(&self) -> PlanTime {
        PlanTime(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn wake_at(&self) -> Instant {
        let Some(book) = &self.book else { return self.next_read };
        let next_try = book.next_try(self.now()).map(|time| self.start + Duration::from_millis(time.0));
        let growth = (self.ask.is_some() && !self.is_growing && book.waiting().next().is_some())
            .then_some(self.no_growth_before);
        [self.backlog.next_try(), next_try, growth, self.next_swap]
            .into_iter()
            .flatten()
            .fold(self.next_compare, Instant::min)
    }

    /// Plans and writes everything that can be done now.
    fn turn(&mut self) {
        self.progress.synced = self.model.is_synced();
        for (origin, complaints) in self.model.take_complaints() {
            self.outputs.ledger.set(origin, complaints);
        }
        if self.book.is_none() && Instant::now() >= self.next_read {
            self.read();
        }
        if let Some(mut book) = self.book.take() {
            if self.progress.synced && self.knows_addresses {
                self.plan(&mut book);
            }
            self.retry(&book);
            if self.next_swap.is_some_and(|at| at <= Instant::now()) {
                self.swap_first();
            }
            self.compare(&book);
            self.ask_for_growth(&book);
            self.publish(&book);
            self.book = Some(book);
        }
        let progress = &self.progress;
        self.outputs.progress.send_if_modified(|known| {
            let is_new = known != progress;
            if is_new {
                known.clone_from(progress);
            }
            is_new
        });
    }

    /// Reads the kernel's tables and adopts their contents.
    fn read(&mut self) {
        match self.store.dump() {
            Ok(found) => {
                self.book = Some(Book::new(found, self.store.capacity(), self.settings.clone()));
                self.progress.last_error = None;
            }
            Err(error) => {
                self.failed(format!("reading the kernel's tables: {error}"));
                self.next_read = Instant::now() + READ_PAUSE;
            }
        }
    }

    fn plan(&mut self, book: &mut Book) {
        let now = self.now();
        let world = self.model.world();
        let mut changes = match &self.planned {
            Some(planned) => Changes::between(planned, world),
            None => Changes { node: true, ..Changes::default() },
        };
        if std::mem::take(&mut self.has_new_settings) {
            book.set_settings(self.settings.clone());
            // Every Service depends on the node, and all are planned anew.
            changes.node = true;
        }
        self.publish_names(world);
        if changes.is_empty() && book.next_try(now).is_none_or(|at| at > now) {
            if self.progress.pending_since_unix_ms.is_none() {
                // Changes since then do not change the restored tables.
                self.progress.changes_in_force = self.progress.changes;
            }
            return;
        }
        let start = Instant::now();
        if !changes.is_empty() {
            let noticed = unix_ms();
            self.progress.pending_since_unix_ms.get_or_insert(noticed);
            self.progress.queued_unix_ms = Some(noticed);
            self.progress.is_node_eligible = world.node.is_eligible;
            self.outputs.world.send_replace(world.clone());
        }
        let turn = book.turn(world, &changes, now);
        self.planned = Some(world.clone());
        self.progress.planned += turn.planned as u64;
        self.progress.planning.add(start.elapsed());
        self.complain(turn.complaints, turn.node_addresses_left_out);
        let written = Instant::now();
        let outcome = self.backlog.apply(&mut self.store, &turn.ops);
        self.progress.writing.add(written.elapsed());
        self.count(outcome);
        if self.backlog.is_empty() {
            book.release(now);
        }
        self.settle(book);
        self.progress.turns.add(start.elapsed());
    }

    /// Publishes changes that only DNS reads. They need no planning.
    fn publish_names(&self, world: &World) {
        let is_known = self.planned.as_ref().is_none_or(|planned| planned.named.is_same(&world.named));
        if !is_known {
            self.outputs.world.send_if_modified(|published| {
                let is_new = !published.named.is_same(&world.named);
                published.named.clone_from(&world.named);
                is_new
            });
        }
    }

    /// Complains. Complaints about missing room are postponed while larger tables are being made.
    fn complain(&mut self, complaints: Vec<(ServiceName, Vec<Complaint>)>, node_addresses_left_out: usize) {
        let may_grow = self.ask.is_some() && (self.is_growing || Instant::now() >= self.no_growth_before);
        for (service, complaints) in complaints {
            if may_grow && complaints.iter().any(|c| c.kind == Kind::NoRoom) {
                self.no_room.insert(service, complaints);
            } else {
                self.no_room.remove(&service);
                self.outputs.ledger.set(Origin::Plan(service), complaints);
            }
        }
        let left_out = (node_addresses_left_out > 0 && !may_grow).then(|| {
            let node = format!("Node {}", self.options.node_name);
            let reason =
                format!("the address table is full: {node_addresses_left_out} addresses are left out");
            Complaint::new(Kind::NoRoom, node, "", reason)
        });
        self.outputs.ledger.set(Origin::NodeAddresses, left_out.into_iter().collect());
    }

    /// Publishes the planned world as in force once all accepted writes are done and no larger table is awaited.
    fn settle(&mut self, book: &Book) {
        let tables = book.tables();
        let entries = tables.frontends.len() + tables.backends.len() + tables.addresses.len();
        if !self.backlog.is_settled(entries) || !self.no_room.is_empty() {
            return;
        }
        self.progress.updated_unix_ms = Some(unix_ms());
        self.swap_first();
        self.progress.changes_in_force = self.progress.changes;
        if let Some(noticed_unix_ms) = self.progress.pending_since_unix_ms.take() {
            self.progress.generation += 1;
            let in_force_unix_ms = self.progress.updated_unix_ms.unwrap_or_default();
            let world = self.planned.clone().unwrap_or_default();
            self.outputs.served.send_replace(Served { world, noticed_unix_ms, in_force_unix_ms });
            tracing::debug!(
                generation = self.progress.generation,
                services = book.services().len(),
                "in force"
            );
        }
    }

    /// Moves the hooks of another version to the tables of this one, if that is still to be done.
    fn swap_first(&mut self) {
        let Some(swap) = &mut self.first_swap else { return };
        match swap() {
            Ok(()) => {
                self.first_swap = None;
                if self.next_swap.take().is_some() {
                    self.progress.last_error = None;
                }
            }
            Err(error) => {
                self.next_swap = Some(Instant::now() + SWAP_PAUSE);
                self.failed(format!("moving the hooks to the new tables: {error:#}"));
            }
        }
    }

    fn retry(&mut self, book: &Book) {
        if self.backlog.next_try().is_some_and(|at| at <= Instant::now()) {
            let outcome = self.backlog.retry(&mut self.store);
            self.count(outcome);
            self.settle(book);
        }
    }

    /// Compares with the kernel's tables and repairs foreign changes.
    fn compare(&mut self, book: &Book) {
        if Instant::now() < self.next_compare {
            return;
        }
        self.next_compare = Instant::now() + COMPARE_PERIOD;
        // The waiting ops are a known difference.
        if self.planned.is_none() || !self.backlog.is_empty() {
            return;
        }
        match self.store.drift(book.tables(), &|pages| book.maglev(pages)) {
            Ok(ops) if ops.is_empty() => self.progress.updated_unix_ms = Some(unix_ms()),
            Ok(ops) => {
                tracing::warn!(ops = ops.len(), first = ?ops[0], "another program changed the kernel's tables: repairing them");
                self.progress.drifts += 1;
                let outcome = self.backlog.apply(&mut self.store, &ops);
                self.count(outcome);
            }
            Err(error) => self.failed(format!("comparing the kernel's tables: {error}")),
        }
    }

    fn ask_for_growth(&mut self, book: &Book) {
        let Some(ask) = &self.ask else { return };
        if self.is_growing || Instant::now() < self.no_growth_before {
            return;
        }
        if let Some(wanted) = book.wanted_capacity(self.options.most_entries) {
            tracing::info!(?wanted, "making larger tables");
            self.is_growing = ask.send(wanted).is_ok();
        } else if !self.no_room.is_empty() {
            self.cannot_grow("no table may have more entries (--max-table-entries)");
        }
    }

    /// Takes larger tables into use, or notes that there are none.
    fn replace(&mut self, answer: Result<Staged<S>, String>) {
        self.is_growing = false;
        let Some(book) = &mut self.book else { return };
        let moved = answer.and_then(|Staged { mut store, swap }| {
            store.fill_from(&self.store, book.tables()).map_err(|error| error.to_string())?;
            swap().map_err(|error| format!("{error:#}"))?;
            Ok(store)
        });
        match moved {
            Ok(store) => {
                self.store = store;
                // Tables that did not grow are the same maps, with the same refused writes.
                self.backlog.retry(&mut self.store);
                book.grow(self.store.capacity());
                self.progress.growths += 1;
                tracing::info!(capacity = ?self.store.capacity(), "replaced the tables by larger ones");
            }
            Err(error) => {
                self.failed(format!("making larger tables: {error}"));
                self.cannot_grow(&error);
            }
        }
    }

    fn cannot_grow(&mut self, why: &str) {
        self.no_growth_before = Instant::now() + GROWTH_PAUSE;
        for (service, complaints) in std::mem::take(&mut self.no_room) {
            let with_reason = complaints.into_iter().map(|c| match c.kind {
                Kind::NoRoom => Complaint { reason: format!("{}; it cannot grow: {why}", c.reason), ..c },
                _ => c,
            });
            self.outputs.ledger.set(Origin::Plan(service), with_reason.collect());
        }
        if let Some(book) = self.book.take() {
            self.settle(&book);
            self.book = Some(book);
        }
    }

    fn count(&mut self, outcome: OpCounts) {
        self.progress.ops += outcome.done;
        if outcome.failed > 0 {
            let first = self.backlog.reasons().next().unwrap_or_default().to_owned();
            self.failed(first);
            self.progress.failures += outcome.failed - 1;
        } else if self.backlog.is_empty() && self.next_swap.is_none() {
            self.progress.last_error = None;
        }
        let named = self.backlog.reasons().take(NAMED_WRITES);
        let complaint = |reason: &str| Complaint::new(Kind::Failed, "the kernel's tables", "", reason);
        self.outputs.ledger.set(Origin::Writes, named.map(complaint).collect());
    }

    fn failed(&mut self, error: String) {
        tracing::warn!(error, "reconcile failed, will retry");
        self.progress.failures += 1;
        self.progress.last_error = Some(error);
    }

    fn publish(&mut self, book: &Book) {
        let can_grow = self.ask.is_some() && Instant::now() >= self.no_growth_before;
        let sizes = book.fills().into_iter().map(|fill| TableSize {
            table: fill.table,
            used: fill.used,
            capacity: fill.capacity,
            can_grow: can_grow && fill.capacity < u64::from(self.options.most_entries),
        });
        self.progress.sizes = sizes.collect();
        self.progress.unserved = book.waiting().count() as u64;
        let Some(world) = self.planned.as_ref().filter(|_| self.progress.generation > 0) else { return };
        self.outputs.in_force.send_if_modified(|known| {
            let is_new = known.udp_losses != book.udp_losses()
                || known.affinity_losses != book.affinity_losses()
                || !known.serving.ptr_eq(book.serving())
                || !known.affinity_backends.ptr_eq(book.affinity_backends())
                || !known.services.ptr_eq(book.services())
                || known.own_addresses != world.addresses;
            if is_new {
                *known = InForce::of(book, &world.addresses);
            }
            is_new
        });
    }
}

#[cfg(test)]
mod tests;
