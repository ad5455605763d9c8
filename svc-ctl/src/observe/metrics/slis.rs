//! `/metrics/slis`: how the health check at `--metrics-bind-address` goes, as kube-proxy counts it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

use super::page::Page;
use super::{Part, PartCollector};

/// Checks that were asked for at `/healthz`. The one check there, `ping`, succeeds whenever it is answered.
#[derive(Clone, Debug, Default)]
pub struct HealthChecks(Arc<AtomicU64>);

impl HealthChecks {
    pub fn succeeded(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn prometheus_text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(PartCollector(Box::new(self.clone()))));
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

impl Part for HealthChecks {
    /// Like kube-proxy's page it has no sample before the first question.
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let count = Some(self.0.load(Ordering::Relaxed)).filter(|count| *count != 0);
        let labels = || vec![("name", "ping".into()), ("type", "healthz".into())];
        page.gauges(
            "kubernetes_healthcheck",
            "The result of the last health check: 1 is success.",
            count.map(|_| (labels(), 1_u64)),
        )?;
        let with_status =
            || vec![("name", "ping".into()), ("status", "success".into()), ("type", "healthz".into())];
        page.counters(
            "kubernetes_healthchecks",
            "Health checks by result.",
            count.map(|count| (with_status(), count)),
        )
    }
}
