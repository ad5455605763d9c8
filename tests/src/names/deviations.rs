//! Deliberate differences between svc's name server and CoreDNS (`docs/dns.md`). One that never occurs is an error.

use hickory_server::proto::op::ResponseCode;

use super::ask::Response;

pub const ALL: [&str; 7] = [
    "a denial of a headless Service's name, or below it, lives 1 s",
    "whether a name exists does not depend on the type",
    "every type of question at an ExternalName has the CNAME",
    "an alias is shown also where its end has nothing",
    "a namespace exists if a Service or EndpointSlice is in it",
    "addresses beside SRV records are left out where a datagram has no room for them",
    "CoreDNS does not name itself where it has a loopback address alone",
];

/// Result of comparing two responses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Equal,
    /// The answers differ by this one of [`ALL`].
    Deviates(&'static str),
    Differs,
}

/// Compares CoreDNS's response with svc's.
pub fn explain(name: &str, record_type: &str, theirs: &Response, ours: &Response) -> Verdict {
    if is_equal(theirs, ours) {
        return Verdict::Equal;
    }
    let lower = name.to_lowercase();
    let is_denied = |said: &Response| said.answers.is_empty();
    let has_alias = ours.answers.iter().any(|record| record.contains(" IN CNAME "));
    let soon = Response {
        authorities: theirs.authorities.iter().map(|r| r.replace(" 5 SOA", " 1 SOA")).collect(),
        ..theirs.clone()
    };
    let is_bare = |said: &Response| is_denied(said) && said.code == ResponseCode::NoError;
    let is_gone = |said: &Response| is_denied(said) && said.code == ResponseCode::NXDomain;
    let in_namespace = lower.split('.').count() == 4 && lower.ends_with(".cluster.local");
    let with_theirs =
        Response { additionals: theirs.additionals.clone(), truncated: theirs.truncated, ..ours.clone() };
    if record_type == "SRV" && !ours.truncated && is_equal(theirs, &with_theirs) {
        return Verdict::Deviates(ALL[5]);
    }
    if ours.code == ResponseCode::NXDomain && is_equal(&soon, ours) && lower.ends_with(".svc.cluster.local") {
        return Verdict::Deviates(ALL[0]);
    }
    if has_alias && !matches!(record_type, "A" | "AAAA" | "CNAME") && is_denied(theirs) {
        return Verdict::Deviates(ALL[2]);
    }
    if has_alias && matches!(record_type, "A" | "AAAA") && is_bare(theirs) {
        return Verdict::Deviates(ALL[3]);
    }
    if is_bare(ours) && is_gone(theirs) && is_known_by_another_type(&lower, record_type) {
        return Verdict::Deviates(ALL[1]);
    }
    if record_type == "SOA" && is_bare(theirs) && is_gone(ours) {
        return Verdict::Deviates(ALL[1]);
    }
    if in_namespace && is_bare(theirs) && is_gone(ours) {
        return Verdict::Deviates(ALL[4]);
    }
    if matches!((lower.as_str(), record_type), ("cluster.local", "NS") | ("ns.dns.cluster.local", "A")) {
        return Verdict::Deviates(ALL[6]);
    }
    Verdict::Differs
}

/// Names that exist with another type: a namespace, the version, the name server, and an address with a name.
fn is_known_by_another_type(name: &str, record_type: &str) -> bool {
    let is_namespace = name.split('.').count() == 4 && name.ends_with(".svc.cluster.local");
    let is_known = is_namespace
        || matches!(name, "dns-version.cluster.local" | "ns.dns.cluster.local" | "cluster.local")
        || matches!(name, "svc.cluster.local" | "pod.cluster.local");
    is_known || (name.ends_with(".arpa") && record_type != "PTR")
}

/// Truncated responses may be truncated at different records.
fn is_equal(theirs: &Response, ours: &Response) -> bool {
    match theirs.truncated && ours.truncated {
        true => (theirs.code, theirs.has_opt) == (ours.code, ours.has_opt),
        false => theirs == ours,
    }
}
