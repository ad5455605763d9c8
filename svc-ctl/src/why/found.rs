//! The step that names the frontend, or says why there is none.

use svc_common::abi::*;

use super::ServiceNames;
use super::answer::{Answer, Verdict};
use super::request::{Request, proto_name};
use crate::dataplane::lookup::Found;

/// Adds the step of the frontend.
pub fn frontend(answer: &mut Answer, names: &ServiceNames, request: &Request, found: &Found) {
    let Request { to, proto, .. } = request;
    let Some((scope, frontend)) = &found.frontend else { return };
    let service = service_name(names, frontend.service);
    let (kind, rules): (_, &[&'static str]) = match *scope {
        Scope::NODE_PORT => ("a NodePort", &["SEM-022", "SEM-024"]),
        _ if frontend.flags.has(FrontendFlags::EXTERNAL) => {
            ("an external or load-balancer address", &["SEM-024"])
        }
        _ => ("a ClusterIP", &[]),
    };
    answer.step("frontend", rules, format!("{to}/{}, {kind} of {service}", proto_name(*proto)));
    answer.service = Some(service);
}

/// Adds the step of a destination without frontend, and its verdict.
pub fn none(answer: &mut Answer, found: &Found, drops_unknown_ports: bool, is_unallocated: bool) {
    let address = found.address;
    let (verdict, reason, rules, text): (_, _, &[&'static str], _) = if address.has(AddressFlags::LOCAL) {
        let text = "none, and the address is this node's own: the node itself answers";
        (Verdict::NoService, None, &["SEM-023"], text)
    } else if address.has(AddressFlags::CLUSTER_IP) {
        let text = "none: the ClusterIP's Service has no such port";
        (Verdict::Refused, Some(Counter::RejectUnknownPort), &["SEM-095"], text)
    } else if address.has(AddressFlags::EXTERNAL_IP) && drops_unknown_ports {
        let text =
            "none: no Service has this port of the external address, and --unknown-external-ports drops it";
        (Verdict::Dropped, Some(Counter::DropUnknownPort), &["SEM-096"], text)
    } else if address.has(AddressFlags::EXTERNAL_IP) {
        let text = "none: no Service has this port of the external address, which is left alone";
        (Verdict::NoService, None, &["SEM-096"], text)
    } else if is_unallocated {
        let text = "none: an address of a Service CIDR that no Service has";
        (Verdict::Dropped, Some(Counter::DropUnallocated), &["SEM-095"], text)
    } else {
        (Verdict::NoService, None, &["SEM-107", "SEM-108"], "none: the address is no Service's")
    };
    answer.step("frontend", rules, text);
    (answer.verdict, answer.reason) = (verdict, reason.map(Counter::label));
}

/// The daemon's name for a service port, or its number.
pub fn service_name(names: &ServiceNames, id: ServicePortId) -> String {
    names.get(&id.0).cloned().unwrap_or_else(|| format!("#{}", id.0))
}
