//! Revalidates the neighbors of redirected flows. The kernel probes a stale neighbor only when its stack sends to it, and
//! redirected packets do not pass the stack: a neighbor that changes its MAC without an announcement would be lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_secs(5);

/// Next hop of a flow's redirected packets.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NextHop {
    /// Index of the interface.
    pub interface: u32,
    /// MAC of the neighbor.
    pub mac: [u8; 6],
}

/// Neighbors in use.
pub type NextHops = Arc<BTreeSet<NextHop>>;

/// Revalidates the neighbors that a published report names, for as long as there are reports.
pub async fn run<R>(reports: watch::Receiver<R>, next_hops: fn(&R) -> NextHops) -> anyhow::Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection().context("opening netlink")?;
    tokio::spawn(connection);
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_failed = false;
    loop {
        reports.has_changed()?;
        period.tick().await;
        let in_use = next_hops(&reports.borrow());
        let revalidated = if in_use.is_empty() { Ok(()) } else { revalidate(&handle, &in_use).await };
        match &revalidated {
            Err(error) if !has_failed => tracing::warn!("cannot revalidate neighbors: {error:#}"),
            Ok(()) if has_failed => tracing::info!("revalidating neighbors works again"),
            _ => {}
        }
        has_failed = revalidated.is_err();
    }
}

/// Lets the kernel probe those of these neighbors that are stale.
async fn revalidate(handle: &Handle, in_use: &BTreeSet<NextHop>) -> anyhow::Result<()> {
    let mut neighbors = handle.neighbours().get().execute();
    let mut stale = Vec::new();
    while let Some(neighbor) = neighbors.try_next().await.context("listing neighbors")? {
        if is_stale(&neighbor, in_use) {
            stale.push(neighbor);
        }
    }
    for neighbor in stale {
        use_neighbor(handle, neighbor).await?;
    }
    Ok(())
}

/// The neighbor's MAC, if the kernel knows one.
pub fn mac(neighbor: &NeighbourMessage) -> Option<[u8; 6]> {
    neighbor.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })
}

fn is_stale(neighbor: &NeighbourMessage, in_use: &BTreeSet<NextHop>) -> bool {
    neighbor.header.state == NeighbourState::Stale
        && mac(neighbor)
            .is_some_and(|mac| in_use.contains(&NextHop { interface: neighbor.header.ifindex, mac }))
}

/// Has the effect of a packet that the stack sends to this neighbor (`NTF_USE`, rtnetlink(7)): the kernel waits for a
/// sign of life, then probes.
async fn use_neighbor(handle: &Handle, mut neighbor: NeighbourMessage) -> anyhow::Result<()> {
    neighbor.header.flags = NeighbourFlags::Use;
    neighbor.attributes.retain(|attribute| matches!(attribute, NeighbourAttribute::Destination(_)));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(neighbor));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut answers = handle.clone().request(request).context("using a neighbor")?;
    while let Some(answer) = futures::StreamExt::next(&mut answers).await {
        if let NetlinkPayload::Error(error) = answer.payload
            && let Some(code) = error.code
            // The neighbor is gone.
            && -code.get() != libc::ENOENT
        {
            return Err(error.to_io()).context("using a neighbor");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_neighbors_in_use_are_revalidated_and_no_others() {
        let in_use = BTreeSet::from([NextHop { interface: 3, mac: [2, 0, 0, 0, 0, 7] }]);
        for (interface, last, state, expected) in [
            (3, 7, NeighbourState::Stale, true),
            (3, 7, NeighbourState::Reachable, false),
            (3, 7, NeighbourState::Permanent, false),
            (4, 7, NeighbourState::Stale, false),
            (3, 8, NeighbourState::Stale, false),
        ] {
            let mut neighbor = NeighbourMessage::default();
            neighbor.header.ifindex = interface;
            neighbor.header.state = state;
            neighbor.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, last]));
            assert_eq!(is_stale(&neighbor, &in_use), expected, "{neighbor:?}");
        }
    }
}
