//! An observer on a segment: asks repeatedly for the host that has an address, and counts the requests with more than
//! one answer.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use svc_ctl::lb::claim::Mac;
use svc_ctl::lb::frames;
use svc_tests::netns::Netns;
use svc_tests::topology::Addrs;

/// Answers to a question arrive within this time.
const TURN: Duration = Duration::from_millis(40);

/// The interface of an observer.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub interface: &'static str,
    pub mac: Mac,
    pub addrs: Addrs,
}

/// The result of an observation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub answered: u64,
    /// Questions with answers of two hosts.
    pub answered_twice: u64,
}

/// A running observation.
pub struct Observer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Count>>,
}

impl Observer {
    pub fn start(netns: &Netns, place: Place, address: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (is_over, netns) = (Arc::clone(&stop), netns.name().to_owned());
        let thread = thread::spawn(move || {
            Netns::of_others(&netns).within(|| observe(place, address, &|| is_over.load(Ordering::Relaxed)))
        });
        Self { stop, thread }
    }

    pub fn end(self) -> Result<Count> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the observer panicked"))?
    }
}

fn observe(place: Place, address: IpAddr, is_over: &dyn Fn() -> bool) -> Result<Count> {
    let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("a socket for frames")?;
    socket.bind(&at(place.interface)?).context("bind to an interface")?;
    let question = frames::probe(address, place.mac, Some(place.addrs.v6)).context("a question")?;
    let mut count = Count::default();
    while !is_over() {
        let end = Instant::now() + TURN;
        socket.send(&question).context("send a question")?;
        let mut hosts = BTreeSet::new();
        while let Some(rest) = end.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            socket.set_read_timeout(Some(rest))?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); 128];
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            // SAFETY: the kernel has written that many octets.
            let frame: Vec<u8> =
                buffer.iter().take(length).map(|octet| unsafe { octet.assume_init() }).collect();
            hosts.extend(answerer(&frame, place.mac, address));
        }
        count.answered += u64::from(!hosts.is_empty());
        count.answered_twice += u64::from(hosts.len() > 1);
    }
    Ok(count)
}

/// The host that answers with this frame. An announcement to all hosts is no answer.
fn answerer(frame: &[u8], to: Mac, address: IpAddr) -> Option<Mac> {
    let from: Mac = frame.get(6..12)?.try_into().ok()?;
    let is_answer = match address {
        // ARP: a reply with the address as its sender.
        IpAddr::V4(ip) => {
            frame.get(12..14)? == [0x08, 0x06]
                && frame.get(20..22)? == [0, 2]
                && frame.get(28..32)? == ip.octets()
        }
        // An advertisement, right after the header of IPv6, with the address as its target.
        IpAddr::V6(ip) => {
            let target: [u8; 16] = frame.get(62..78)?.try_into().ok()?;
            frame.get(12..14)? == [0x86, 0xdd]
                && frame.get(20)? == &58
                && frame.get(54)? == &136
                && Ipv6Addr::from(target) == ip
        }
    };
    (is_answer && frame.get(..6)? == to).then_some(from)
}

/// `sockaddr_ll` of an interface.
fn at(interface: &str) -> Result<SockAddr> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll fits into the storage, and any octets are a valid one.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the family is AF_PACKET and the length that of its address.
    Ok(unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}
