//! A relay between daemon and API server that cuts, slows and blocks connections; TLS does not prevent that.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use svc_tests::netns::Netns;

/// Octets that a connection may still receive from the server, if unlimited.
const NO_LIMIT: u64 = u64::MAX;
/// Octets forwarded between two pauses, if slow.
const PIECE: usize = 4096;

/// Listens on the loopback address of a network namespace until dropped.
#[derive(Debug)]
pub struct Relay {
    state: Arc<State>,
    listener: TcpListener,
    pub address: SocketAddr,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Close new connections at once.
    shut: AtomicBool,
    /// Octets that a new connection may receive.
    allowance: AtomicU64,
    /// Milliseconds between two pieces.
    pause_ms: AtomicU64,
    cut: AtomicU64,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    left: AtomicU64,
}

impl Relay {
    pub fn start(netns: &Netns, server: SocketAddr) -> Result<Self> {
        let state = Arc::new(State {
            server,
            connections: Mutex::default(),
            shut: AtomicBool::new(false),
            allowance: AtomicU64::new(NO_LIMIT),
            pause_ms: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        });
        // Threads made inside stay in the namespace, as do their sockets.
        netns.within(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("open the relay")?;
            let (ours, accepting) = (Arc::clone(&state), listener.try_clone()?);
            thread::spawn(move || accepting.incoming().map_while(Result::ok).for_each(|c| ours.accept(c)));
            Ok(Self { address: listener.local_addr()?, listener, state })
        })
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Cuts every connection after that many more octets from the server.
    pub fn cut_after(&self, octets: u64) {
        for connection in self.state.connections() {
            connection.left.store(octets, Ordering::Relaxed);
            if octets == 0 {
                connection.close();
            }
        }
    }

    /// Cuts all connections and refuses new ones; `false` accepts them again.
    pub fn shut(&self, shut: bool) {
        self.state.shut.store(shut, Ordering::Relaxed);
        if shut {
            self.cut_after(0);
        }
    }

    /// Limits the octets that each later connection may receive before it is cut; `None`: unlimited.
    pub fn allow_each(&self, octets: Option<u64>) {
        self.state.allowance.store(octets.unwrap_or(NO_LIMIT), Ordering::Relaxed);
    }

    /// Number of connections cut at their limit.
    pub fn cut(&self) -> u64 {
        self.state.cut.load(Ordering::Relaxed)
    }

    /// Forwards 4 KiB at a time, with this pause before each.
    pub fn slow(&self, pause: Duration) {
        self.state.pause_ms.store(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Wakes the accepting thread, which ends and releases the namespace.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        self.cut_after(0);
    }
}

impl State {
    fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Two threads per connection; the daemon notices its errors.
    fn accept(self: &Arc<Self>, client: TcpStream) {
        if self.shut.load(Ordering::Relaxed) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.server) else { return };
        let left = AtomicU64::new(self.allowance.load(Ordering::Relaxed));
        let connection = Arc::new(Connection { client, server, left });
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&connection));
        let (up, state) = (Arc::clone(&connection), Arc::clone(self));
        thread::spawn(move || state.pass(&up, &up.client, &up.server, false));
        let state = Arc::clone(self);
        thread::spawn(move || state.pass(&connection, &connection.server, &connection.client, true));
    }

    /// Forwards one direction until it ends or reaches the limit.
    fn pass(&self, connection: &Connection, mut from: &TcpStream, mut to: &TcpStream, is_limited: bool) {
        let mut piece = [0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            thread::park_timeout(Duration::from_millis(self.pause_ms.load(Ordering::Relaxed)));
            let left = if is_limited { connection.left.load(Ordering::Relaxed) } else { NO_LIMIT };
            let allowed = count.min(usize::try_from(left).unwrap_or(usize::MAX));
            if to.write_all(piece.get(..allowed).unwrap_or_default()).is_err() {
                break;
            }
            if allowed < count {
                self.cut.fetch_add(1, Ordering::Relaxed);
                break;
            }
            if is_limited && left != NO_LIMIT {
                connection.left.fetch_sub(allowed as u64, Ordering::Relaxed);
            }
        }
        connection.close();
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|other| !std::ptr::eq(&**other, connection));
    }
}

impl Connection {
    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}
