//! Endpoints that a UDP flow may stay with; the sweeper ends flows to others (SEM-124).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use imbl::OrdMap;
use svc_common::addr::Proto;

use super::tables::Frontend;
use crate::model::endpoint::PortEndpoint;

/// By UDP frontend; one without such an endpoint is missing, and its flows are left alone.
pub type Serving = OrdMap<Frontend, Arc<BTreeSet<SocketAddr>>>;

/// The endpoints that a flow may stay with, whatever policy, place and topology say of new ones; nothing for other
/// protocols than UDP, or if there are none.
pub fn serving_set(proto: Proto, endpoints: &[PortEndpoint<'_>]) -> Option<Arc<BTreeSet<SocketAddr>>> {
    if proto != Proto::UDP {
        return None;
    }
    // Ready and not serving: its pod publishes addresses that are not ready, and new flows go there (SEM-049).
    let may_stay = endpoints.iter().filter(|e| e.endpoint.ready || e.endpoint.serving);
    let set: BTreeSet<SocketAddr> = may_stay.map(|e| e.target().into()).collect();
    (!set.is_empty()).then(|| Arc::new(set))
}
