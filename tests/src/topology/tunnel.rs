//! A tunnel that looks like WireGuard or IPIP to the layers above: a device without Ethernet header at either end. A
//! thread of this program carries the packets between them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};

use super::{Addrs, addresses, firewall};
use crate::netns::Netns;

/// Interval between the thread's checks whether it should end.
const LOOK_MS: libc::c_int = 50;

/// One end: a namespace, the device's name there, its addresses.
pub struct End<'a> {
    pub netns: &'a Netns,
    pub device: &'a str,
    pub addrs: Addrs,
}

/// Both devices; dropping it removes them.
#[derive(Debug)]
pub struct Tunnel {
    is_over: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Packets of more than `mtu` octets do not fit.
    pub fn new(ends: [&End<'_>; 2], mtu: u16) -> Result<Self> {
        let [left, right] = ends;
        let devices = [open(left)?, open(right)?];
        set_up(left, right.addrs, mtu)?;
        set_up(right, left.addrs, mtu)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let carrier = thread::spawn(move || carry(&devices, &until));
        Ok(Self { is_over, carrier: Some(carrier) })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // It ends at its next check.
        let _ = self.carrier.take().map(JoinHandle::join);
    }
}

fn set_up(end: &End<'_>, peer: Addrs, mtu: u16) -> Result<()> {
    let End { netns, device, addrs } = end;
    firewall::strict_interface(netns, device)?;
    addresses::no_waiting_for_dad(netns)?;
    netns.ip(&format!(
        "link set {device} mtu {mtu} up\naddr add {}/32 dev {device}\naddr add {}/128 dev {device} nodad\n\
         route add {}/32 dev {device} src {}\nroute add {}/128 dev {device} src {}",
        addrs.v4, addrs.v6, peer.v4, addrs.v4, peer.v6, addrs.v6
    ))
}

/// The device; it exists as long as this descriptor.
fn open(end: &End<'_>) -> Result<OwnedFd> {
    let what = || format!("making {} in {}", end.device, end.netns.name());
    end.netns.within(|| {
        let file = File::options().read(true).write(true).open("/dev/net/tun").with_context(what)?;
        // SAFETY: a plain structure of integers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(end.device.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request has the layout that this call expects, and outlives it.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error()).with_context(what);
        }
        Ok(file.into())
    })
}

fn carry(devices: &[OwnedFd; 2], is_over: &AtomicBool) {
    let mut packet = vec![0u8; 1 << 16];
    let [left, right] = devices.each_ref().map(|device| device.as_raw_fd());
    while !is_over.load(Ordering::Relaxed) {
        let mut ready = [left, right].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        // SAFETY: two structures of ours.
        unsafe { libc::poll(ready.as_mut_ptr(), 2, LOOK_MS) };
        for (from, to) in [(ready[0], right), (ready[1], left)] {
            if from.revents & libc::POLLIN == 0 {
                continue;
            }
            // SAFETY: reads into and writes from a buffer of ours, of its length. Packets that the other end refuses
            // are lost, as in any network.
            unsafe {
                let octets = libc::read(from.fd, packet.as_mut_ptr().cast(), packet.len());
                if let Ok(octets) = usize::try_from(octets) {
                    libc::write(to, packet.as_ptr().cast(), octets);
                }
            }
        }
    }
}
