//! Backends that were on this node and are on another one now, with the same address and port. Flows of clients from outside
//! that reach them with their own address must end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use svc_common::abi::Locality;

use crate::plan::tables::Backend;

/// Backends that are remembered after they have gone. A node has at most some hundreds of pods.
const REMEMBERED: usize = 4096;

/// Backends that have moved, and those that may still move.
#[derive(Clone, Debug, Default)]
pub struct MovedBackends {
    away: Arc<BTreeSet<SocketAddr>>,
    /// Backends that were on this node when they went.
    gone: BTreeSet<SocketAddr>,
    /// Counts additions to `away`.
    count: u64,
}

impl MovedBackends {
    pub const fn away(&self) -> &Arc<BTreeSet<SocketAddr>> {
        &self.away
    }

    /// Grows with each backend that moves away.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Notes that a backend is published. `before` is its earlier value, if it had one.
    pub fn publish(&mut self, before: Option<Backend>, now: Backend) {
        let target = SocketAddr::new(now.addr, now.port);
        let was_here = match before {
            Some(before) => {
                (before.addr, before.port, before.locality) == (now.addr, now.port, Locality::LOCAL)
            }
            None => self.gone.contains(&target),
        };
        self.gone.remove(&target);
        if was_here && now.locality == Locality::REMOTE {
            Arc::make_mut(&mut self.away).insert(target);
            self.count += 1;
        } else if now.locality != Locality::REMOTE {
            self.forget(target);
        }
    }

    /// A backend is published no more.
    pub fn remove(&mut self, gone: Backend) {
        let target = SocketAddr::new(gone.addr, gone.port);
        self.forget(target);
        if gone.locality == Locality::LOCAL {
            self.gone.insert(target);
        }
        if self.gone.len() > REMEMBERED {
            self.gone.pop_first();
        }
    }

    fn forget(&mut self, target: SocketAddr) {
        if self.away.contains(&target) {
            Arc::make_mut(&mut self.away).remove(&target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn backend(locality: Locality) -> Backend {
        Backend { addr: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 10)), port: 8080, locality }
    }

    #[test]
    fn a_backend_that_was_here_and_is_elsewhere_has_moved_also_after_a_pause() {
        let (here, there, host) =
            (backend(Locality::LOCAL), backend(Locality::REMOTE), backend(Locality::HOST));
        // Each step is published, or `None`: removed. At the end, whether it has moved away.
        let rows: [(&[Option<Backend>], bool); 8] = [
            (&[Some(here)], false),
            (&[Some(there)], false),
            (&[Some(here), Some(there)], true),
            (&[Some(here), None, Some(there)], true),
            (&[Some(here), None], false),
            (&[Some(here), None, Some(there), Some(here)], false),
            (&[Some(here), Some(there), None, Some(there)], false),
            (&[Some(host), None, Some(there)], false),
        ];
        for (steps, is_away) in rows {
            let (mut moves, mut before) = (MovedBackends::default(), None);
            for step in steps {
                match (*step, before) {
                    (Some(now), _) => moves.publish(before, now),
                    (None, Some(gone)) => moves.remove(gone),
                    (None, None) => {}
                }
                before = *step;
            }
            assert_eq!(!moves.away().is_empty(), is_away, "{steps:?}");
            assert!(moves.count() >= u64::from(is_away), "{steps:?}");
        }
    }

    #[test]
    fn no_more_are_remembered_than_a_node_has() {
        let mut moves = MovedBackends::default();
        for port in 1..=REMEMBERED as u16 + 5 {
            moves.remove(Backend { port, ..backend(Locality::LOCAL) });
        }
        assert_eq!(moves.gone.len(), REMEMBERED);
    }
}
