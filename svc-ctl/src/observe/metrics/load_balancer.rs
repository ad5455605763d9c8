//! Load-balancer addresses of pools, and which of them this node answers for.

use std::fmt;

use tokio::sync::watch;

use super::Part;
use super::page::{Page, label};
use crate::lb::report::Count;

#[derive(Debug)]
pub struct LoadBalancer {
    pub count: watch::Receiver<Count>,
}

impl Part for LoadBalancer {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let count = *self.count.borrow();
        let by_state = [
            ("here", count.here),
            ("elsewhere", count.elsewhere),
            ("unanswered", count.unanswered),
            ("conflict", count.conflicts),
        ];
        page.gauges(
            "svc_lb_addresses",
            "Addresses of pools that Services have, by who answers for them: this node, another one, nobody, or a host that is \
             no node.",
            by_state.map(|(state, number)| (label("state", state), number)),
        )?;
        page.counter("svc_lb_taken", "Times that this node took a load-balancer address.", count.taken)?;
        page.counter(
            "svc_lb_given_up",
            "Times that this node gave a load-balancer address up, or yielded it to another node.",
            count.given_up,
        )
    }
}
