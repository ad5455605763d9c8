//! Reads a name below the domain by its labels alone.

use equivalent::{Comparable, Equivalent};
use hickory_server::proto::rr::Name;

use crate::model::name::ServiceName;

/// The octets of a name that is not ASCII match nothing.
const NOT_TEXT: &str = "\u{0}";

/// A Service's name as a question spells it, to look it up without a copy.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct NameRef<'n> {
    pub namespace: &'n str,
    pub name: &'n str,
}

impl<'n> From<&'n ServiceName> for NameRef<'n> {
    fn from(name: &'n ServiceName) -> Self {
        Self { namespace: &name.namespace, name: &name.name }
    }
}

impl Equivalent<ServiceName> for NameRef<'_> {
    fn equivalent(&self, key: &ServiceName) -> bool {
        *self == NameRef::from(key)
    }
}

impl Comparable<ServiceName> for NameRef<'_> {
    fn compare(&self, key: &ServiceName) -> std::cmp::Ordering {
        self.cmp(&NameRef::from(key))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject<'n> {
    /// The domain itself, `svc` or `pod` below it: it exists and has no addresses.
    Branch,
    /// `dns-version`.
    Version,
    /// `ns.dns`.
    NameServer,
    /// `NAMESPACE.svc`.
    Namespace(&'n str),
    /// `SERVICE.NAMESPACE.svc`.
    Service(NameRef<'n>),
    /// `HOST.SERVICE.NAMESPACE.svc`.
    Endpoint(NameRef<'n>, &'n str),
    /// `_PORT._PROTOCOL.SERVICE.NAMESPACE.svc`, without the underscores.
    Port(NameRef<'n>, PortRef<'n>),
    /// No name of the specification.
    Nowhere,
}

/// A port by its labels; an empty one stands for all, as in CoreDNS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PortRef<'n> {
    pub port: &'n str,
    pub protocol: &'n str,
}

/// `name` is in lower case and ends with the domain, which has so many labels.
pub fn subject_of(name: &Name, domain_labels: usize) -> Subject<'_> {
    let mut labels = name.iter().rev().skip(domain_labels).map(|label| match label.is_ascii() {
        true => std::str::from_utf8(label).unwrap_or(NOT_TEXT),
        false => NOT_TEXT,
    });
    let mut label = || labels.next();
    match label() {
        None => Subject::Branch,
        Some("svc") => below_svc([label(), label(), label(), label(), label()]),
        // There are no names of pods (SEM-329).
        Some("pod") if label().is_none() => Subject::Branch,
        Some("dns-version") if label().is_none() => Subject::Version,
        Some("dns") if label() == Some("ns") && label().is_none() => Subject::NameServer,
        Some(_) => Subject::Nowhere,
    }
}

/// The labels left of `svc`, from right to left.
fn below_svc(labels: [Option<&str>; 5]) -> Subject<'_> {
    let [namespace, service, third, fourth, fifth] = labels;
    let Some(namespace) = namespace else { return Subject::Branch };
    let Some(name) = service else { return Subject::Namespace(namespace) };
    let service = NameRef { namespace, name };
    match (third, fourth, fifth) {
        (None, ..) => Subject::Service(service),
        (Some(host), None, _) => Subject::Endpoint(service, host),
        (Some(protocol), Some(port), None) => {
            let port = PortRef { port: without_underscore(port), protocol: without_underscore(protocol) };
            Subject::Port(service, port)
        }
        (Some(_), Some(_), Some(_)) => Subject::Nowhere,
    }
}

fn without_underscore(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_classified_by_its_labels() {
        let service = NameRef { namespace: "shop", name: "web" };
        let port = PortRef { port: "http", protocol: "tcp" };
        for (name, subject) in [
            ("c.l.", Subject::Branch),
            ("svc.c.l.", Subject::Branch),
            ("pod.c.l.", Subject::Branch),
            ("dns-version.c.l.", Subject::Version),
            ("x.dns-version.c.l.", Subject::Nowhere),
            ("ns.dns.c.l.", Subject::NameServer),
            ("dns.c.l.", Subject::Nowhere),
            ("x.ns.dns.c.l.", Subject::Nowhere),
            ("shop.svc.c.l.", Subject::Namespace("shop")),
            ("shop.pod.c.l.", Subject::Nowhere),
            ("10-0-0-1.shop.pod.c.l.", Subject::Nowhere),
            ("web.shop.svc.c.l.", Subject::Service(service)),
            ("a.web.shop.svc.c.l.", Subject::Endpoint(service, "a")),
            ("_http._tcp.web.shop.svc.c.l.", Subject::Port(service, port)),
            ("http.tcp.web.shop.svc.c.l.", Subject::Port(service, port)),
            ("a._http._tcp.web.shop.svc.c.l.", Subject::Nowhere),
            ("web.shop.c.l.", Subject::Nowhere),
        ] {
            assert_eq!(subject_of(&Name::from_ascii(name).unwrap(), 2), subject, "{name}");
        }
    }
}
