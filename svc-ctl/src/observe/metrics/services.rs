//! Traffic of each service port, counted by the programs. Their number has a cap, because each has three series.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use svc_common::abi::{ServiceCounters, ServicePortId};
use tokio::sync::watch;

use super::Part;
use super::page::{Labels, Page};
use crate::dataplane::pins::Pins;
use crate::dataplane::service_counters::ServiceMap;
use crate::model::name::{ServicePortKey, proto_label};
use crate::reconcile::InForce;
use crate::sweeper::SweepReport;

/// Source of the programs' counters of service ports.
pub trait ServiceCounts: fmt::Debug + Send + Sync {
    /// In the order of the ids. Nothing if they cannot be read.
    fn read(&self, ids: &[ServicePortId]) -> Option<Vec<ServiceCounters>>;
}

/// The counters in the pinned map. It is opened at each scrape, because a table that grew is another map.
#[derive(Debug)]
pub struct PinnedCounters(PathBuf);

impl PinnedCounters {
    pub const fn new(pin_dir: PathBuf) -> Self {
        Self(pin_dir)
    }
}

impl ServiceCounts for PinnedCounters {
    fn read(&self, ids: &[ServicePortId]) -> Option<Vec<ServiceCounters>> {
        let map = ServiceMap::open(&Pins::existing(&self.0).ok()?).ok()?;
        Some(ids.iter().map(|id| map.get(*id)).collect())
    }
}

#[derive(Debug)]
pub struct Services {
    pub in_force: watch::Receiver<InForce>,
    pub sweeps: watch::Receiver<SweepReport>,
    pub counters: Box<dyn ServiceCounts>,
    /// Service ports that are shown, at most: the first ones by name, so that a series stays as long as its port does.
    pub most: usize,
}

impl Part for Services {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let services = self.in_force.borrow().services.clone();
        page.gauge("svc_service_ports", "Service ports that are in force.", services.len())?;
        page.gauge(
            "svc_service_ports_without_series",
            "Service ports beyond --metrics-service-ports, which have no series of their own.",
            services.len().saturating_sub(self.most),
        )?;
        let shown: Vec<_> = services.iter().take(self.most).collect();
        let live = self.sweeps.borrow().live.by_service.clone();
        page.gauges(
            "svc_service_flows_live",
            "Flows that are alive, by service port. Ports without any have no series.",
            shown.iter().filter_map(|(key, id)| Some((labels(key), *live.get(&id.0)?))),
        )?;
        let ids: Vec<ServicePortId> = shown.iter().map(|(_, id)| **id).collect();
        let counters = self.counters.read(&ids).unwrap_or_default();
        let samples: Vec<_> = shown.into_iter().zip(&counters).map(|((key, _), all)| (key, all)).collect();
        let of = |number: fn(&ServiceCounters) -> u64| {
            samples.iter().map(move |(key, all)| (labels(key), number(all)))
        };
        page.counters(
            "svc_service_flows",
            "Flows that began, by service port. A socket that a hook connected counts as one.",
            of(|all| all.flows),
        )?;
        page.counters(
            "svc_service_packets",
            "Packets that were translated, in both directions, by service port. A socket that a hook connected sends packets \
             that need no translation: those are not counted.",
            of(|all| all.packets),
        )?;
        page.counters(
            "svc_service_bytes",
            "Octets of the packets that were translated, from the IP header on, by service port.",
            of(|all| all.bytes),
        )
    }
}

fn labels(key: &ServicePortKey) -> Labels<'_> {
    vec![
        ("namespace", Cow::from(&*key.service.namespace)),
        ("service", Cow::from(&*key.service.name)),
        ("port", Cow::from(&*key.port)),
        ("protocol", proto_label(key.proto).into()),
    ]
}
