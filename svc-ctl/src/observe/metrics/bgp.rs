//! Sessions with the routers that load-balancer addresses are announced to.

use std::fmt;

use tokio::sync::watch;

use super::Part;
use super::page::{Page, label};
use crate::lb::bgp::report::{PeerCount, PeerCounts};

#[derive(Debug)]
pub struct Bgp {
    pub peers: watch::Receiver<PeerCounts>,
}

impl Part for Bgp {
    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let peers = self.peers.borrow().clone();
        let rows = |number: fn(&PeerCount) -> u64| {
            peers.iter().map(move |(name, peer)| (label("peer", name.clone()), number(peer)))
        };
        page.gauges(
            "svc_lb_bgp_session_up",
            "1 if the session with a BGP peer is established, else 0.",
            rows(|peer| u64::from(peer.is_established)),
        )?;
        page.gauges(
            "svc_lb_bgp_announced_prefixes",
            "Routes that a BGP peer has of this node.",
            rows(|peer| peer.prefixes),
        )?;
        page.counters(
            "svc_lb_bgp_updates",
            "UPDATE messages to a BGP peer since the session was configured.",
            rows(|peer| peer.updates),
        )?;
        page.counters(
            "svc_lb_bgp_sessions",
            "Sessions with a BGP peer that were established since it was configured.",
            rows(|peer| peer.established),
        )
    }
}
