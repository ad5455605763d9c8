//! Connected UDP sockets that the socket hooks translated: no packet of theirs asks a table again, so the ones whose
//! endpoint is gone are ended (SEM-130). Their owners dial anew, and get a backend that serves.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns};
use svc_common::abi::{SockKey, SockValue, names};
use svc_common::addr::{AddrV4, AddrV6, Port};

use super::encode::Encode;
use super::entries::each;
use super::pins::Pins;
use super::sock_diag;

/// A socket and the backend it was given.
type Translated = (u64, SocketAddr);

/// Which sockets were looked for already.
#[derive(Default)]
pub struct Sockets {
    /// The table does not say which sockets are UDP, connected or open: what was looked for once is left alone until
    /// its backend has served again. Otherwise every change would ask all namespaces for what no longer is.
    looked_for: BTreeSet<Translated>,
}

/// What came of one pass.
#[derive(Debug, Default)]
pub struct Outcome {
    pub ended: u64,
    /// Sockets that should have ended, and are still open.
    pub left: u64,
    /// Why the kernel refuses, the last time it did.
    pub refusal: Option<String>,
}

impl Sockets {
    /// Ends the connected UDP sockets whose entry (frontend dialled, backend) is stale, and no others, in whichever
    /// namespace they are. Namespaces are asked for only if there is something to look for.
    pub fn end_stale(
        &mut self,
        pins: &Pins,
        is_stale: impl Fn(SocketAddr, SocketAddr) -> bool,
        namespaces: impl FnOnce() -> Vec<File> + Send,
    ) -> anyhow::Result<Outcome> {
        let mut stale = BTreeSet::new();
        collect::<AddrV4>(pins, names::SOCKETS4, &is_stale, &mut stale)?;
        collect::<AddrV6>(pins, names::SOCKETS6, &is_stale, &mut stale)?;
        let wanted: BTreeSet<Translated> = stale.difference(&self.looked_for).copied().collect();
        self.looked_for = stale;
        let mut outcome = Outcome::default();
        if wanted.is_empty() {
            return Ok(outcome);
        }
        // Threads of the daemon stay in its own namespace.
        let work =
            || namespaces().into_iter().for_each(|namespace| end_in(&namespace, &wanted, &mut outcome));
        thread::scope(|scope| scope.spawn(work).join())
            .map_err(|_| anyhow!("the thread that ends sockets panicked"))?;
        Ok(outcome)
    }
}

fn collect<A: Encode>(
    pins: &Pins,
    table: &str,
    is_stale: &impl Fn(SocketAddr, SocketAddr) -> bool,
    stale: &mut BTreeSet<Translated>,
) -> anyhow::Result<()> {
    let socket = |addr: A, port: Port| -> SocketAddr {
        let ip: IpAddr = addr.to_ip();
        (ip, port.number()).into()
    };
    each(pins, table, |key: SockKey<A>, dialled: SockValue<A>| {
        let backend = socket(key.addr, key.port);
        if is_stale(socket(dialled.addr, dialled.port), backend) {
            let [low, high] = key.cookie;
            stale.insert((u64::from(high) << 32 | u64::from(low), backend));
        }
    })
    .with_context(|| format!("reading {table}"))
}

/// Moves this thread into a namespace and ends what is wanted there.
fn end_in(namespace: &File, wanted: &BTreeSet<Translated>, outcome: &mut Outcome) {
    if let Err(err) = setns(namespace, CloneFlags::CLONE_NEWNET) {
        tracing::debug!(%err, "a network namespace cannot be entered");
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

impl Outcome {
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

/// Closed, or connected elsewhere, before we came.
fn is_closed(err: &io::Error) -> bool {
    err.kind() == ErrorKind::NotFound || err.raw_os_error() == Some(libc::ESTALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_130_a_kernel_that_refuses_is_named_and_what_closed_meanwhile_is_no_matter() {
        let mut outcome = Outcome::default();
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
