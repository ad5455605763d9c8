//! The step that names the frontend, or says why there is none.

use svc_common::abi::*;
use svc_common::datapath::choose::{WithoutFrontend, without_frontend};

use super::AskWanted;
use super::explanation::{Explanation, Verdict};
use super::request::Request;
use crate::dataplane::dry_run::Net;
use crate::dataplane::lookup::{self, Found};
use crate::dataplane::maps::Maps;
use crate::model::name::proto_label;
use crate::observe::wanted::Wanted;

/// Adds the step of the frontend. Returns its wanted side.
pub fn frontend(
    explanation: &mut Explanation,
    ask: AskWanted<'_>,
    request: &Request,
    (scope, frontend): &(Scope, FrontendValue),
) -> Option<Wanted> {
    let Request { to, proto, .. } = request;
    let wanted = ask(frontend.service.0);
    let service = service_name(wanted.as_ref(), frontend.service);
    let (kind, rules): (_, &[&'static str]) = match *scope {
        Scope::NODE_PORT => ("a NodePort", &["SEM-022", "SEM-024"]),
        _ if frontend.flags.has(FrontendFlags::EXTERNAL) => {
            ("an external or load-balancer address", &["SEM-024"])
        }
        _ => ("a ClusterIP", &[]),
    };
    explanation.step("frontend", rules, format!("{to}/{}, {kind} of {service}", proto_label(*proto)));
    explanation.service = Some(service);
    explanation.endpoints = wanted.iter().flat_map(|wanted| wanted.endpoints.clone()).collect();
    wanted
}

/// Adds the step of a destination without frontend, and its verdict.
pub fn none<F: Net>(
    explanation: &mut Explanation,
    maps: &Maps,
    (config, role): (&Config, Role),
    found: &Found,
    to: F::Addr,
) {
    let is_of_pool = config.pools != 0 && role == Role::UPLINK && found.address == AddressFlags::default();
    let is_in_service_cidr =
        || config.service_cidrs != 0 && lookup::is_listed::<F>(maps, PrefixList::SERVICE_CIDRS, to);
    let decision = without_frontend(found.address, config.drops_unknown_ports != 0, is_in_service_cidr);
    let (verdict, reason, rules, text): (_, _, &[&'static str], _) = match decision {
        WithoutFrontend::Own => {
            let text = "none, and the address is this node's own: the node itself answers";
            (Verdict::NoService, None, &["SEM-023"], text)
        }
        WithoutFrontend::UnknownPort => {
            let text = "none: the ClusterIP's Service has no such port";
            (Verdict::Refused, Some(Counter::RejectUnknownPort), &["SEM-095"], text)
        }
        WithoutFrontend::UnknownExternalPort => {
            let text = "none: no Service has this port of the external address, and --unknown-external-ports drops it";
            (Verdict::Dropped, Some(Counter::DropUnknownPort), &["SEM-096"], text)
        }
        WithoutFrontend::Unallocated => {
            let text = "none: an address of a Service CIDR that no Service has";
            (Verdict::Dropped, Some(Counter::DropUnallocated), &["SEM-095"], text)
        }
        WithoutFrontend::NoService if found.address.has(AddressFlags::EXTERNAL_IP) => {
            let text = "none: no Service has this port of the external address, which is left alone";
            (Verdict::NoService, None, &["SEM-096"], text)
        }
        WithoutFrontend::NoService if is_of_pool && lookup::is_listed::<F>(maps, PrefixList::POOLS, to) => {
            let text = "none: an address of a load-balancer pool that no Service has";
            (Verdict::Dropped, Some(Counter::DropUnallocated), &["SEM-315"], text)
        }
        WithoutFrontend::NoService => {
            (Verdict::NoService, None, &["SEM-107", "SEM-108"], "none: the address is no Service's")
        }
    };
    explanation.step("frontend", rules, text);
    (explanation.verdict, explanation.reason) = (verdict, reason.map(Counter::label));
}

/// Adds the step of the source ranges.
pub fn source_ranges(explanation: &mut Explanation, wanted: Option<&Wanted>, client: &str, has_client: bool) {
    let ranges = wanted.map(|wanted| wanted.source_ranges.join(", ")).filter(|ranges| !ranges.is_empty());
    let ranges = ranges.map_or_else(String::new, |ranges| format!(" ({ranges})"));
    let verb = if has_client { "have" } else { "do not have" };
    explanation.step(
        "source ranges",
        &["SEM-031"],
        format!("loadBalancerSourceRanges{ranges} {verb} {client}"),
    );
}

/// The daemon's name for a service port, or its number.
pub fn service_name(wanted: Option<&Wanted>, id: ServicePortId) -> String {
    wanted.map_or_else(|| format!("service port #{}", id.0), |wanted| wanted.service.clone())
}
