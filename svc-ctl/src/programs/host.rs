//! Kernel features that are missing, and settings of the host. svc changes no sysctl: a setting that it needs is named.

use crate::dataplane::features::Features;
use crate::model::complaint::{Complaint, Kind};

/// What the kernel and the host lack now.
pub fn complaints(features: Features) -> Vec<Complaint> {
    let kernel = features.fallbacks().into_iter().map(|text| Complaint::new(Kind::Host, "kernel", "", text));
    let is_off = |name: &&str| {
        std::fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|value| value.trim() == "0")
    };
    let forwarding = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].into_iter().filter(is_off);
    kernel.chain(forwarding.map(forwarding_complaint)).collect()
}

fn forwarding_complaint(name: &str) -> Complaint {
    let reason = format!("{name} is 0: packets are not forwarded to pods or other nodes");
    Complaint::new(Kind::Host, "sysctl", name, reason)
}
