//! The daemon's version and progress.

use std::collections::BTreeMap;
use std::fmt;

use svc_common::abi::TABLES_ABI;
use tokio::sync::watch;

use super::Part;
use super::page::{Page, label};
use crate::model::complaint::Kind;
use crate::observe::ledger::Complaints;
use crate::observe::summary::kind_name;
use crate::reconcile::Progress;
use crate::sweeper::SweepReport;

#[derive(Debug)]
pub struct State {
    pub progress: watch::Receiver<Progress>,
    pub sweeps: watch::Receiver<SweepReport>,
    pub complaints: watch::Receiver<Complaints>,
}

impl Part for State {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let version =
            vec![("version", env!("CARGO_PKG_VERSION").into()), ("abi", TABLES_ABI.to_string().into())];
        page.gauges("svc_build_info", "Always 1: version of svc-ctl and of its tables.", [(version, 1_u64)])?;
        let progress = self.progress.borrow().clone();
        write_progress(page, &progress)?;
        write_loop(page, &progress)?;
        let sweeps = self.sweeps.borrow().clone();
        write_ended(page, &sweeps)?;
        let complaints = self.complaints.borrow().clone();
        let mut by_kind: BTreeMap<Kind, u64> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        for complaint in complaints.values().flat_map(|list| list.iter()) {
            *by_kind.entry(complaint.kind).or_default() += 1;
        }
        page.gauges(
            "svc_complaints",
            "Problems that an operator or the owner of a Service should know, by kind. `svc-ctl status --complaints` lists \
             them.",
            by_kind.into_iter().map(|(kind, count)| (label("kind", kind_name(kind)), count)),
        )
    }
}

fn write_progress(page: &mut Page<'_>, progress: &Progress) -> fmt::Result {
    page.gauge("svc_synced", "1 if every source has listed its objects.", u64::from(progress.synced))?;
    page.gauge(
        "svc_generation",
        "Counts the states of the sources that have come into force completely, since the start.",
        progress.generation,
    )?;
    page.gauge(
        "svc_pending_since_timestamp_seconds",
        "When the oldest change was taken that is not in force yet, in seconds since 1970. Zero: nothing waits.",
        progress.pending_since_unix_ms.unwrap_or_default() as f64 / 1e3,
    )?;
    page.gauge(
        "svc_node_eligible",
        "1 if load balancers may send this node new connections.",
        u64::from(progress.is_node_eligible),
    )?;
    page.gauge(
        "svc_unserved_services",
        "Services that are not served, in whole or in part, because a table has no room.",
        progress.unserved,
    )
}

fn write_loop(page: &mut Page<'_>, progress: &Progress) -> fmt::Result {
    let counters = [
        ("svc_table_writes", "Writes to the kernel's tables of Services.", progress.ops),
        ("svc_services_planned", "Times that a Service was planned.", progress.planned),
        ("svc_failures", "Attempts to read or write the kernel's tables that failed.", progress.failures),
        (
            "svc_drifts",
            "Times that another program had changed the kernel's tables. They were healed.",
            progress.drifts,
        ),
        ("svc_table_growths", "Times that tables were replaced by larger ones.", progress.growths),
    ];
    counters.into_iter().try_for_each(|(name, help, value)| page.counter(name, help, value))
}

fn write_ended(page: &mut Page<'_>, sweeps: &SweepReport) -> fmt::Result {
    page.counter(
        "svc_udp_flows_removed",
        "UDP flows that were ended because their endpoint was gone.",
        sweeps.udp_flows_removed,
    )?;
    page.counter(
        "svc_udp_sockets_ended",
        "Connected UDP sockets that were ended because their endpoint was gone.",
        sweeps.udp_sockets_ended,
    )?;
    page.counter(
        "svc_udp_sockets_left",
        "Connected UDP sockets whose endpoint was gone and that the kernel refused to end.",
        sweeps.udp_sockets_left,
    )
}
