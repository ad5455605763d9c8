//! What the host lacks, and what is on it that may get in the way. svc changes none of it: what matters is named.

use crate::dataplane::features::Features;
use crate::model::complaint::{Complaint, Kind};
use crate::node::snat_ports::{EphemeralPorts, SnatPorts, overlap};

/// What the kernel and the host lack now.
pub fn complaints(features: Features, snat_ports: SnatPorts) -> Vec<Complaint> {
    let kernel = features.fallbacks().into_iter().map(|text| Complaint::new(Kind::Host, "kernel", "", text));
    let is_off = |name: &&str| {
        std::fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|value| value.trim() == "0")
    };
    let forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].into_iter().filter(is_off);
    let shared_ports = overlap(snat_ports, &EphemeralPorts::of_host());
    let shared_ports =
        shared_ports.map(|(sysctl, reason)| Complaint::new(Kind::Conflict, "sysctl", sysctl, reason));
    kernel.chain(forwarding.map(forwarding_complaint)).chain(shared_ports).collect()
}

fn forwarding_complaint(name: &str) -> Complaint {
    let reason = format!("{name} is 0: packets are not forwarded to pods or other nodes");
    Complaint::new(Kind::Host, "sysctl", name, reason)
}
