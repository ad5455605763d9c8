//! Complaints about the host: missing features and settings, and things that may get in the way. svc does not change
//! the host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::firewall::{self, Forward};
use crate::config::Config;
use crate::dataplane::features::Features;
use crate::dataplane::{nf_tables, xfrm};
use crate::model::complaint::{Complaint, Kind, Origin};
use crate::node::roles::Assignment;
use crate::node::snat_ports::{EphemeralPorts, SnatPorts, among_node_ports, overlap};
use crate::node::{Interface, Interfaces, sysctl};
use crate::observe::ledger::Ledger;

/// Interval between two readings of the netfilter chains. The pause is also a multiple of the time that reading took:
/// there may be many chains.
const FIREWALL_PERIOD: Duration = Duration::from_secs(10);
const FIREWALL_PAUSES: u32 = 500;

/// Watches the host and complains.
#[derive(Debug)]
pub struct Host {
    ledger: Ledger,
    firewall: Arc<Mutex<Firewall>>,
}

/// Result of the last reading of the netfilter chains.
#[derive(Debug, Default)]
struct Firewall {
    forward: Forward,
    next: Option<Instant>,
}

impl Host {
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, firewall: Arc::default() }
    }

    /// Effect of netfilter on forwarded packets at the last reading.
    pub fn forward(&self) -> Forward {
        lock(&self.firewall).forward.clone()
    }

    /// Reads the netfilter chains at once.
    pub fn read_firewall(&self, config: &Config) {
        read_firewall(&self.firewall, &self.ledger, config.settings.masquerade.to_local);
    }

    /// Checks settings and rules that may have changed.
    pub fn look(&mut self, config: &Config, features: Features) {
        self.ledger.set(Origin::Host, complaints(features, config.snat_ports));
        let now = Instant::now();
        let mut known = lock(&self.firewall);
        if known.next.is_some_and(|next| now < next) {
            return;
        }
        // Replaced when the reading is done.
        known.next = Some(now + FIREWALL_PERIOD);
        drop(known);
        let (known, ledger) = (Arc::clone(&self.firewall), self.ledger.clone());
        let masquerades_local = config.settings.masquerade.to_local;
        // On a thread of its own: kube-proxy may have left a chain for each endpoint, and interfaces wait for this
        // thread.
        let read = move || read_firewall(&known, &ledger, masquerades_local);
        if let Err(err) = thread::Builder::new().name("firewall".to_owned()).spawn(read) {
            tracing::warn!(%err, "cannot read the nf_tables chains");
        }
    }

    pub fn note_interfaces(&self, interfaces: &Interfaces, roles: &BTreeMap<u32, Assignment>) {
        self.ledger.set(Origin::Interfaces, interface_complaints(interfaces, roles));
    }
}

fn lock(firewall: &Mutex<Firewall>) -> MutexGuard<'_, Firewall> {
    firewall.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_firewall(known: &Mutex<Firewall>, ledger: &Ledger, masquerades_local: bool) {
    let begun = Instant::now();
    let read = || {
        let chains = nf_tables::chains()?;
        Forward::read(&chains, nf_tables::rules).map(|forward| (chains, forward))
    };
    match read() {
        Ok((chains, forward)) => {
            let pause = FIREWALL_PERIOD.max(begun.elapsed() * FIREWALL_PAUSES);
            let mut complaints = firewall::complaints(&chains, &forward, masquerades_local);
            complaints.extend(ipsec_complaint());
            ledger.set(Origin::Firewall, complaints);
            *lock(known) = Firewall { forward, next: Some(Instant::now() + pause) };
        }
        // The last result stays in force.
        Err(err) => tracing::debug!(%err, "cannot read the nf_tables chains and rules"),
    }
}

/// Policies of IPsec that redirected packets bypass. A kernel without IPsec has none.
fn ipsec_complaint() -> Option<Complaint> {
    let is_bypassed = xfrm::has_bypassed_policy().unwrap_or_else(|err| {
        tracing::debug!(%err, "cannot read the IPsec policies");
        false
    });
    let reason = "masqueraded packets to pods of other nodes bypass the node's IPsec policies and leave unencrypted: \
                  externalTrafficPolicy: Local sends none to other nodes, and a tunnel that is an interface encrypts them";
    is_bypassed.then(|| Complaint::new(Kind::Conflict, "ip xfrm policy", "", reason))
}

/// Features and settings that the kernel and the host lack now.
fn complaints(features: Features, snat_ports: SnatPorts) -> Vec<Complaint> {
    let kernel = features.fallbacks().into_iter().map(|text| Complaint::new(Kind::Host, "kernel", "", text));
    let is_off = |name: &&str| sysctl(name).is_some_and(|value| value == "0");
    let forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].into_iter().filter(is_off);
    let shared_ports = overlap(snat_ports, &EphemeralPorts::of_host());
    let shared_ports =
        shared_ports.map(|(sysctl, reason)| Complaint::new(Kind::Conflict, "sysctl", sysctl, reason));
    let node_ports = among_node_ports(snat_ports);
    let node_ports = node_ports.map(|reason| Complaint::new(Kind::Conflict, "--snat-ports", "", reason));
    kernel.chain(forwarding.map(forwarding_complaint)).chain(shared_ports).chain(node_ports).collect()
}

fn forwarding_complaint(name: &str) -> Complaint {
    let name = name.replace('/', ".");
    let reason = format!("it is 0, so packets are not forwarded to pods or other nodes: `sysctl {name}=1`");
    Complaint::new(Kind::Host, "sysctl", name.as_str(), reason)
}

/// Interfaces whose role is in doubt, and those left by another proxy.
fn interface_complaints(interfaces: &Interfaces, roles: &BTreeMap<u32, Assignment>) -> Vec<Complaint> {
    let complaint = |i: &Interface, reason: String| {
        Complaint::new(Kind::Conflict, format!("interface {}", i.name), "", reason)
    };
    let doubts =
        interfaces.list.iter().filter_map(|i| Some(complaint(i, roles.get(&i.index)?.doubt.clone()?)));
    let left = interfaces.list.iter().filter(|i| i.is_of_another_proxy()).map(|i| {
        let count = i.addrs.len();
        let reason = format!(
            "it holds {count} addresses of Services that another proxy left; they are not the node's: `kube-proxy --cleanup` or \
             `ip link delete {}` removes it",
            i.name
        );
        complaint(i, reason)
    });
    doubts.chain(left).collect()
}
