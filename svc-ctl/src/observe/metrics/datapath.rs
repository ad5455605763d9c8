//! Packets by verdict, with the reasons of `docs/counters.md`.

use std::fmt;

use svc_common::abi::Counter;
use tokio::sync::watch;

use super::Part;
use super::page::{Page, label};
use crate::model::name::{IpFamily, proto_label};
use crate::sweeper::SweepReport;

#[derive(Debug)]
pub struct Datapath {
    pub sweeps: watch::Receiver<SweepReport>,
    /// Source ports that the masquerade has for one destination.
    pub snat_ports: u16,
}

/// The kind of event that a counter counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Drop,
    Refusal,
    Event,
}

impl Part for Datapath {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let (counters, live) = {
            let sweeps = self.sweeps.borrow();
            (sweeps.counters.clone(), sweeps.live.clone())
        };
        page.gauges(
            "svc_flows",
            "Flows that are alive: connections, and datagrams of one client socket. Those of sockets that a hook connected have \
             no record and are not counted.",
            IpFamily::ALL.into_iter().zip(live.flows).map(|(f, count)| (label("ip_family", f.label()), count)),
        )?;
        page.gauges(
            "svc_snat_ports_in_use",
            "Source ports of the masquerade in use, for the ten destinations of each family that have the most.",
            live.snat.iter().flatten().map(|used| {
                let destination = ("destination", used.destination.to_string().into());
                (vec![destination, ("protocol", proto_label(used.proto).into())], used.ports)
            }),
        )?;
        page.gauge(
            "svc_snat_ports_capacity",
            "Source ports that the masquerade has for each destination and protocol (--snat-ports).",
            u64::from(self.snat_ports),
        )?;
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
            "Other events of the programs, by event (docs/counters.md). flow_new: flows that began.",
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
