//! Load-balancer addresses of pools, and which of them this node answers for.

use std::fmt;

use tokio::sync::watch;

use super::Part;
use super::page::{Page, label};
use crate::lb::report::Count;
use crate::lb::usage::{PoolUse, PoolsUse};

#[derive(Debug)]
pub struct LoadBalancer {
    pub count: watch::Receiver<Count>,
    pub pools: watch::Receiver<PoolsUse>,
}

impl Part for LoadBalancer {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let count = *self.count.borrow();
        let pools = self.pools.borrow().clone();
        let by_state = [
            ("here", count.here),
            ("elsewhere", count.elsewhere),
            ("unanswered", count.unanswered),
            ("conflict", count.conflicts),
        ];
        page.gauges(
            "svc_lb_addresses",
            "Addresses of pools that Services have, by the host that answers for them: this node, another node, none, or a host that is \
             no node.",
            by_state.map(|(state, number)| (label("state", state), number)),
        )?;
        page.counter("svc_lb_taken", "Times that this node took a load-balancer address.", count.taken)?;
        page.counter(
            "svc_lb_given_up",
            "Times that this node gave a load-balancer address up, or yielded it to another node.",
            count.given_up,
        )?;
        let row = |row: &PoolUse, number: u64| {
            let mut labels = label("pool", row.pool.clone());
            labels.push(("ip_family", row.family.label().into()));
            (labels, number)
        };
        page.gauges(
            "svc_lb_pool_addresses",
            "Addresses that a pool has for Services.",
            pools.pools.iter().map(|pool| row(pool, pool.addresses)),
        )?;
        page.gauges(
            "svc_lb_pool_addresses_in_use",
            "Addresses of a pool that Services have.",
            pools.pools.iter().map(|pool| row(pool, pool.in_use)),
        )?;
        page.gauges(
            "svc_lb_services_without_address",
            "Services that ask for an address of a pool and get none: no address is free (exhausted), or for a reason that their \
             complaint names (refused).",
            [("exhausted", pools.exhausted), ("refused", pools.refused)]
                .map(|(reason, number)| (label("reason", reason), number)),
        )
    }
}
