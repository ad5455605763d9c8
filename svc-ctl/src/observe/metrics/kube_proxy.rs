//! kube-proxy's own metrics, with its names, types, labels and classes. One loop writes both families, so a number that
//! kube-proxy has by family is the same for both.

use std::fmt;

use tokio::sync::watch;

use super::Part;
use super::followed::{Followed, Policy};
use super::page::{Classes, Labels, Page, label};
use super::requests::HealthRequests;
use crate::model::name::IpFamily;
use crate::reconcile::Progress;

#[derive(Debug)]
pub struct KubeProxy {
    progress: watch::Receiver<Progress>,
    followed: Followed,
    health: HealthRequests,
}

impl KubeProxy {
    pub const fn new(
        progress: watch::Receiver<Progress>,
        followed: Followed,
        health: HealthRequests,
    ) -> Self {
        Self { progress, followed, health }
    }
}

impl Part for KubeProxy {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let progress = self.progress.borrow().clone();
        write_turns(page, &progress)?;
        write_changes(page, &progress)?;
        let programming = self.followed.programming();
        page.histograms(
            "kubeproxy_network_programming_duration_seconds",
            "Seconds from a change of a Pod or Service, as its EndpointSlice names it, until the change is in force in the \
             kernel.",
            IpFamily::ALL.map(family).into_iter().zip(programming),
        )?;
        let no_local =
            self.followed.without_local_endpoints().into_iter().map(|((policy, ip_family), count)| {
                let policy = match policy {
                    Policy::Internal => "internal",
                    Policy::External => "external",
                };
                let mut labels = family(ip_family);
                labels.push(("traffic_policy", policy.into()));
                (labels, count)
            });
        page.gauges(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports with traffic policy Local that have usable endpoints, and none of them on this node.",
            no_local,
        )?;
        self.health.write(page)
    }
}

fn write_turns(page: &mut Page<'_>, progress: &Progress) -> fmt::Result {
    page.histograms(
        "kubeproxy_sync_proxy_rules_duration_seconds",
        "Seconds that planning and writing changes took, by turn of the loop.",
        both(Classes::from(&progress.turns)),
    )?;
    let seconds = |ms: Option<u64>| ms.unwrap_or_default() as f64 / 1e3;
    page.gauges(
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "When the kernel's tables were last found or made right, in seconds since 1970. Zero: never.",
        both(seconds(progress.updated_unix_ms)),
    )?;
    page.gauges(
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
        "When the newest change was taken, in seconds since 1970. Zero: never.",
        both(seconds(progress.queued_unix_ms)),
    )
}

fn write_changes(page: &mut Page<'_>, progress: &Progress) -> fmt::Result {
    let (all, in_force) = (progress.changes, progress.changes_in_force);
    let kinds = [
        ("endpoint", "EndpointSlices", all.slices, in_force.slices),
        ("service", "Services", all.services, in_force.services),
    ];
    for (kind, objects, all, in_force) in kinds {
        page.gauge(
            &format!("kubeproxy_sync_proxy_rules_{kind}_changes_pending"),
            &format!("Changes of {objects} that are not in force in the kernel yet."),
            all.saturating_sub(in_force),
        )?;
        page.counter(
            &format!("kubeproxy_sync_proxy_rules_{kind}_changes"),
            &format!("Changes of {objects} since the start, those of the first list included."),
            all,
        )?;
    }
    Ok(())
}

fn both<V: Clone>(value: V) -> [(Labels<'static>, V); 2] {
    IpFamily::ALL.map(|ip_family| (family(ip_family), value.clone()))
}

fn family(ip_family: IpFamily) -> Labels<'static> {
    label("ip_family", ip_family.label())
}
