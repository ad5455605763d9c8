//! Ends connected UDP sockets that the socket hooks translated and whose endpoint is gone (SEM-130). Their packets do
//! not look up any table again. The owner dials again and gets another backend.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread;

use anyhow::anyhow;
use nix::sched::{CloneFlags, setns};
use svc_common::abi::{SockKey, SockValue};
use svc_common::addr::Port;

use super::pass::{Pass, Translated};
use super::stale::is_stale_udp;
use crate::dataplane::encode::Encode;
use crate::dataplane::entries::each;
use crate::dataplane::pins::Pins;
use crate::dataplane::sock_diag;
use crate::reconcile::InForce;

/// Sockets that were searched before.
#[derive(Default)]
pub struct Sockets {
    /// The table does not show which sockets are connected UDP sockets or still open. A socket is searched once, and
    /// again only after its backend has served in between. Otherwise every change would search all namespaces for
    /// closed sockets.
    looked_for: BTreeSet<Translated>,
}

/// Result of one pass.
#[derive(Debug, Default)]
pub struct EndedSockets {
    pub ended: u64,
    /// Sockets that should have ended and are still open.
    pub left: u64,
    /// The kernel's last refusal.
    pub refusal: Option<String>,
}

impl Sockets {
    /// Ends the connected UDP sockets among these, in whichever namespace they are. Visits namespaces only if there
    /// is something to search.
    pub fn end(
        &mut self,
        stale: BTreeSet<Translated>,
        namespaces: impl FnOnce() -> Vec<File> + Send,
    ) -> anyhow::Result<EndedSockets> {
        let wanted: BTreeSet<Translated> = stale.difference(&self.looked_for).copied().collect();
        self.looked_for = stale;
        let mut outcome = EndedSockets::default();
        if wanted.is_empty() {
            return Ok(outcome);
        }
        // On another thread, because the sweeper's thread must stay in the daemon's namespace.
        let work =
            || namespaces().into_iter().for_each(|namespace| end_in(&namespace, &wanted, &mut outcome));
        thread::scope(|scope| scope.spawn(work).join())
            .map_err(|_| anyhow!("the thread that ends sockets panicked"))?;
        Ok(outcome)
    }
}

/// One pass over one family's table: counts its entries, and lists the stale ones if `in_force` is given.
pub fn sweep<A: Encode>(pins: &Pins, table: &str, in_force: Option<&InForce>) -> anyhow::Result<Pass> {
    let socket = |addr: A, port: Port| SocketAddr::new(addr.to_ip(), port.number());
    let mut pass = Pass::default();
    let (mut present, mut stale) = (0, BTreeSet::new());
    pass.info = each(pins, table, |key: SockKey<A>, dialled: SockValue<A>| {
        present += 1;
        let (frontend, backend) = (socket(dialled.addr, dialled.port), socket(key.addr, key.port));
        if in_force.is_some_and(|in_force| is_stale_udp(in_force, frontend, backend)) {
            let [low, high] = key.cookie;
            stale.insert((u64::from(high) << 32 | u64::from(low), backend));
        }
    })?;
    (pass.present, pass.stale_sockets) = (present, stale);
    Ok(pass)
}

/// Moves this thread into a namespace and ends the wanted sockets there.
fn end_in(namespace: &File, wanted: &BTreeSet<Translated>, outcome: &mut EndedSockets) {
    if let Err(err) = setns(namespace, CloneFlags::CLONE_NEWNET) {
        tracing::debug!(%err, "cannot enter a network namespace");
        return;
    }
    let sockets = match sock_diag::connected() {
        Ok(sockets) => sockets,
        Err(err) => {
            outcome.refusal =
                Some(format!("connected UDP sockets cannot be listed (CONFIG_INET_UDP_DIAG): {err}"));
            return;
        }
    };
    let wanted = sockets.iter().filter(|s| wanted.contains(&(s.cookie(), s.peer())));
    wanted.for_each(|socket| outcome.count(sock_diag::end(socket)));
}

impl EndedSockets {
    fn count(&mut self, answer: io::Result<()>) {
        match answer {
            Ok(()) => self.ended += 1,
            Err(err) if is_closed(&err) => {}
            Err(err) => {
                self.left += 1;
                self.refusal = Some(format!("UDP sockets cannot be ended (CONFIG_INET_DIAG_DESTROY): {err}"));
            }
        }
    }
}

/// The socket was closed or connected elsewhere in the meantime.
fn is_closed(err: &io::Error) -> bool {
    err.kind() == ErrorKind::NotFound || err.raw_os_error() == Some(libc::ESTALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_130_a_refusal_of_the_kernel_is_reported_and_a_closed_socket_is_not() {
        let mut outcome = EndedSockets::default();
        outcome.count(Ok(()));
        for gone in [libc::ENOENT, libc::ESTALE] {
            outcome.count(Err(io::Error::from_raw_os_error(gone)));
        }
        assert_eq!((outcome.ended, outcome.left, &outcome.refusal), (1, 0, &None));
        for _ in 0..2 {
            outcome.count(Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
        }
        assert_eq!((outcome.ended, outcome.left), (1, 2));
        assert!(outcome.refusal.is_some_and(|text| text.contains("CONFIG_INET_DIAG_DESTROY")));
    }
}
