//! What happened to packets, by the reasons of `docs/counters.md`.

use std::fmt;

use svc_common::abi::Counter;
use tokio::sync::watch;

use super::Part;
use super::page::{Page, label};
use crate::sweeper::SweepReport;

#[derive(Debug)]
pub struct Datapath {
    pub sweeps: watch::Receiver<SweepReport>,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Drop,
    Refusal,
    Event,
}

impl Part for Datapath {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters = self.sweeps.borrow().counters.clone();
        let of = |class, name| {
            let all = Counter::ALL.iter().map(|counter| counter.label());
            let own = all.filter(move |label| class_of(label) == class);
            let counters = &counters;
            own.map(move |text| (label(name, text), counters.get(text).copied().unwrap_or_default()))
        };
        page.counters(
            "svc_drops",
            "Packets that were dropped, by reason (docs/counters.md).",
            of(Class::Drop, "reason"),
        )?;
        page.counters(
            "svc_refusals",
            "Packets and connects that were refused with an error to the client, by reason (docs/counters.md).",
            of(Class::Refusal, "reason"),
        )?;
        page.counters(
            "svc_datapath_events",
            "What else the programs did, by event (docs/counters.md). flow_new: flows that began.",
            of(Class::Event, "event"),
        )
    }
}

/// By the first word of the label. `svc-ctl/tests/architecture.rs` holds the labels to `docs/counters.md`.
fn class_of(label: &str) -> Class {
    match label.split('_').next() {
        Some("drop") => Class::Drop,
        Some("reject") => Class::Refusal,
        _ if label == Counter::SocketRefused.label() => Class::Refusal,
        _ => Class::Event,
    }
}
