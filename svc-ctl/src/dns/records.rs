//! Resource records, with CoreDNS's times to live.

use std::net::IpAddr;

use hickory_server::proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record};

use super::lookup::Place;

/// Seconds that most records live.
pub const TTL: u32 = 5;
/// Time to live of a denial, in seconds, if endpoints may come soon: the pods of a StatefulSet ask for each other at
/// start.
pub const TTL_OF_SOON: u32 = 1;
/// The schema's version changes with the software.
const TTL_OF_VERSION: u32 = 28_800;
const SCHEMA_VERSION: &str = "1.1.0";

/// Seconds for secondary servers, as CoreDNS has them; there are none.
const REFRESH: i32 = 7_200;
const RETRY: i32 = 1_800;
const EXPIRE: i32 = 86_400;

pub fn address(owner: Name, addr: IpAddr) -> Record {
    let data = match addr {
        IpAddr::V4(addr) => RData::A(addr.into()),
        IpAddr::V6(addr) => RData::AAAA(addr.into()),
    };
    Record::from_rdata(owner, TTL, data)
}

pub fn cname(owner: Name, target: Name) -> Record {
    Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target)))
}

pub fn ptr(owner: Name, target: Name) -> Record {
    Record::from_rdata(owner, TTL, RData::PTR(PTR(target)))
}

pub fn ns(owner: Name, target: Name) -> Record {
    Record::from_rdata(owner, TTL, RData::NS(NS(target)))
}

pub fn version(owner: Name) -> Record {
    let data = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
    Record::from_rdata(owner, TTL_OF_VERSION, data)
}

pub fn srv(owner: Name, weight: u16, port: u16, target: Name) -> Record {
    Record::from_rdata(owner, TTL, RData::SRV(SRV::new(0, weight, port, target)))
}

/// `owner` is the top of a zone. `ttl` is the time for which the denial beside it may be cached (RFC 2308).
pub fn soa(owner: Name, domain: &Name, serial: u32, ttl: u32) -> Record {
    let (mname, rname) = (below(&["ns", "dns"], domain), below(&["hostmaster"], domain));
    let data = SOA::new(mname, rname, serial, REFRESH, RETRY, EXPIRE, TTL);
    Record::from_rdata(owner, ttl, RData::SOA(data))
}

/// The name that an ExternalName Service stands for: always absolute, never completed by a search list.
pub fn parse_alias(alias: &str) -> Option<Name> {
    let mut target = Name::from_ascii(alias).ok()?.to_lowercase();
    target.set_fqdn(true);
    Some(target)
}

/// The name of a place below a domain: an endpoint's, or its Service's.
pub fn name_of(place: &Place<'_>, domain: &Name) -> Name {
    let host = place.host.map(|host| host.label());
    let service = [place.service.name, place.service.namespace, "svc"];
    let labels: Vec<&str> = host.as_deref().into_iter().chain(service).collect();
    below(&labels, domain)
}

/// A name that is too long for DNS (a long name in a long domain) is cut to the domain.
pub fn below(labels: &[&str], domain: &Name) -> Name {
    let name = Name::from_labels(labels.iter().map(|label| label.as_bytes()));
    name.and_then(|name| name.append_domain(domain)).unwrap_or_else(|_| domain.clone())
}
