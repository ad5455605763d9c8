//! The pure function from a zone and a question to an answer.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, Record, RecordType};
use ipnet::IpNet;

use super::lookup::{Found, Place, endpoint_places};
use super::records::{self, TTL, TTL_OF_SOON};
use super::reverse::AddressKind;
use super::subject::{PortRef, Subject, subject_of};
use super::zone::Zone;

/// Aliases that are followed one after another, as CoreDNS has it.
const MAX_ALIASES: usize = 10;

/// An answer without its header.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
    /// The answers end with an alias of this name, which is outside of our zones. The upstream's records of that name
    /// belong to the answer.
    pub continues_at: Option<Name>,
}

impl Answer {
    pub fn empty(code: ResponseCode) -> Self {
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, answers, authorities, additionals, continues_at: None }
    }
}

/// `None`: the name is outside of our zones, so an upstream must be asked. `name` is absolute; its case is kept.
pub fn answer(zone: &Zone, name: &Name, record_type: RecordType) -> Option<Answer> {
    let lower = name.to_lowercase();
    if zone.settings.domain.zone_of(&lower) {
        return Some(Asked { zone, record_type }.answer_below_domain(name, &lower));
    }
    let labels = reverse_zone_labels(&lower)?;
    let found = lower.parse_arpa_name().ok().and_then(whole_address).map(|addr| names_of(zone, addr));
    let apex = name.trim_to(labels);
    let deny = |code, ttl| Asked { zone, record_type }.denied(code, apex.clone(), ttl);
    match found.filter(|names| !names.is_empty()) {
        Some(names) if record_type == RecordType::PTR => {
            let answers = names.into_iter().map(|target| records::ptr(name.clone(), target)).collect();
            Some(Answer { answers, ..Answer::empty(ResponseCode::NoError) })
        }
        Some(_) => Some(deny(ResponseCode::NoError, TTL)),
        None if zone.settings.is_forwarding => None,
        None if usize::from(lower.num_labels()) == labels => {
            let mut answer = deny(ResponseCode::NoError, TTL);
            if record_type == RecordType::SOA {
                answer.answers = std::mem::take(&mut answer.authorities);
            }
            Some(answer)
        }
        None => Some(deny(ResponseCode::NXDomain, TTL)),
    }
}

/// The labels of the zone of addresses that a name is in: two of `in-addr.arpa` and `ip6.arpa`.
fn reverse_zone_labels(lower: &Name) -> Option<usize> {
    let mut labels = lower.iter().rev();
    let zone = [labels.next(), labels.next()];
    matches!(zone, [Some(b"arpa"), Some(b"in-addr" | b"ip6")]).then_some(2)
}

fn whole_address(net: IpNet) -> Option<IpAddr> {
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// A Service that has the address, else every endpoint that has it, of whatever Service (SEM-323, SEM-327).
fn names_of(zone: &Zone, addr: IpAddr) -> Vec<Name> {
    let domain = &zone.settings.domain;
    if let Some(service) = zone.reverse.owners(addr, AddressKind::ClusterIp).next() {
        return vec![records::below(&[&service.name, &service.namespace, "svc"], domain)];
    }
    let mut names: Vec<Name> = Vec::new();
    for service in zone.reverse.owners(addr, AddressKind::Endpoint) {
        for place in endpoint_places(&zone.world, service, None, PortRef::default()) {
            if place.addr == addr {
                names.push(records::name_of(&place, domain));
            }
        }
    }
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[derive(Clone, Copy)]
struct Asked<'z> {
    zone: &'z Zone,
    record_type: RecordType,
}

impl Asked<'_> {
    fn answer_below_domain(self, name: &Name, lower: &Name) -> Answer {
        let labels = self.zone.domain_labels();
        let mut answer = Answer::empty(ResponseCode::NoError);
        let (mut name, mut lower) = (Cow::Borrowed(name), Cow::Borrowed(lower));
        loop {
            // The case of the question is kept, down to that of the domain. Most answers need no name of the domain.
            let apex = || name.trim_to(labels);
            let denied = match self.zone.find(subject_of(&lower, labels)) {
                Found::Alias(alias) => {
                    let Some(target) = self.follow(&mut answer, &name, alias) else { return answer };
                    (name, lower) = (Cow::Owned(target.clone()), Cow::Owned(target));
                    continue;
                }
                Found::Nothing => Some((ResponseCode::NXDomain, TTL)),
                Found::NothingYet => Some((ResponseCode::NXDomain, TTL_OF_SOON)),
                Found::Version if self.record_type == RecordType::TXT => {
                    answer.answers.push(records::version(name.clone().into_owned()));
                    None
                }
                Found::NameServer => self.add_name_server(&mut answer, &name),
                Found::Places(places) => self.add_places(&mut answer, &name, &places),
                Found::Bare if usize::from(lower.num_labels()) == labels => {
                    self.add_apex(&mut answer, &apex())
                }
                Found::Version | Found::Bare => Some((ResponseCode::NoError, TTL)),
            };
            if let Some((code, ttl)) = denied {
                let denied = self.denied(code, apex(), ttl);
                (answer.code, answer.authorities) = (denied.code, denied.authorities);
            }
            return answer;
        }
    }

    /// No records, and the SOA record that says for how long.
    fn denied(self, code: ResponseCode, apex: Name, ttl: u32) -> Answer {
        let domain = match self.zone.settings.domain.zone_of(&apex) {
            true => apex.clone(),
            false => self.zone.settings.domain.clone(),
        };
        let soa = records::soa(apex, &domain, self.zone.serial, ttl);
        Answer { authorities: vec![soa], ..Answer::empty(code) }
    }

    /// Adds an alias (SEM-328). Returns the next name to look up, if it is in our zones and not yet part of the answer.
    fn follow(self, answer: &mut Answer, name: &Name, alias: &str) -> Option<Name> {
        let target = records::parse_alias(alias)?;
        answer.answers.push(records::cname(name.clone(), target.clone()));
        if matches!(self.record_type, RecordType::CNAME | RecordType::ANY) {
            return None;
        }
        let is_loop = answer.answers.iter().any(|record| record.name == target);
        if is_loop || answer.answers.len() > MAX_ALIASES {
            // As in CoreDNS, a circle of aliases has no data. The complaint names its Services.
            let apex = answer.answers[0].name.trim_to(self.zone.domain_labels());
            *answer = self.denied(ResponseCode::NoError, apex, TTL);
            return None;
        }
        if self.zone.settings.domain.zone_of(&target) {
            return Some(target);
        }
        answer.continues_at = Some(target);
        None
    }

    fn add_places(
        self,
        answer: &mut Answer,
        name: &Name,
        places: &[Place<'_>],
    ) -> Option<(ResponseCode, u32)> {
        let before = answer.answers.len();
        match self.record_type {
            RecordType::A | RecordType::AAAA => {
                let mut addresses = Unique::default();
                let of_type = places.iter().map(|place| place.addr).filter(|addr| self.is_of_type(*addr));
                for addr in of_type.filter(|addr| addresses.is_new(*addr)) {
                    answer.answers.push(records::address(name.clone(), addr));
                }
            }
            RecordType::SRV => {
                add_services(answer, name, places, &name.trim_to(self.zone.domain_labels()));
            }
            _ => {}
        }
        (answer.answers.len() == before).then_some((ResponseCode::NoError, TTL))
    }

    fn is_of_type(self, addr: IpAddr) -> bool {
        addr.is_ipv4() == (self.record_type == RecordType::A)
    }

    fn add_name_server(self, answer: &mut Answer, name: &Name) -> Option<(ResponseCode, u32)> {
        let before = answer.answers.len();
        if matches!(self.record_type, RecordType::A | RecordType::AAAA) {
            let servers = name_servers(self.zone, name);
            let of_type = servers.into_iter().map(|(_, addr)| addr).filter(|addr| self.is_of_type(*addr));
            answer.answers.extend(of_type.map(|addr| records::address(name.clone(), addr)));
        }
        (answer.answers.len() == before).then_some((ResponseCode::NoError, TTL))
    }

    fn add_apex(self, answer: &mut Answer, apex: &Name) -> Option<(ResponseCode, u32)> {
        match self.record_type {
            RecordType::SOA => {
                answer.answers.push(records::soa(apex.clone(), apex, self.zone.serial, TTL));
                None
            }
            RecordType::NS => {
                let mut seen = HashSet::new();
                for (target, addr) in name_servers(self.zone, apex) {
                    answer.additionals.push(records::address(target.clone(), addr));
                    if seen.insert(target.clone()) {
                        answer.answers.push(records::ns(apex.clone(), target));
                    }
                }
                answer.answers.is_empty().then_some((ResponseCode::NoError, TTL))
            }
            _ => Some((ResponseCode::NoError, TTL)),
        }
    }
}

/// SRV records and the addresses that their targets have (SEM-322, SEM-326). CoreDNS shares 100 among the places.
fn add_services(answer: &mut Answer, name: &Name, places: &[Place<'_>], apex: &Name) {
    let weight = u16::try_from(100 / places.len()).unwrap_or_default().max(1);
    let (mut seen_ports, mut seen_addresses) = (HashSet::new(), HashSet::new());
    for place in places {
        let Some(port) = place.port else { continue };
        let target = records::name_of(place, apex);
        if seen_ports.insert((target.clone(), port)) {
            answer.answers.push(records::srv(name.clone(), weight, port, target.clone()));
        }
        if seen_addresses.insert((target.clone(), place.addr)) {
            answer.additionals.push(records::address(target, place.addr));
        }
    }
}

/// Names and addresses of this name server: the Services that it is an endpoint of, else `ns.dns`.
fn name_servers(zone: &Zone, name: &Name) -> Vec<(Name, IpAddr)> {
    let apex = name.trim_to(zone.domain_labels());
    let mut servers = Vec::new();
    for addr in &zone.settings.addresses {
        for service in zone.reverse.owners(*addr, AddressKind::Endpoint) {
            if let Found::Places(places) = zone.find(Subject::Service(service.into())) {
                servers.extend(places.iter().map(|place| (records::name_of(place, &apex), place.addr)));
            }
        }
    }
    if servers.is_empty() {
        let own = records::below(&["ns", "dns"], &apex);
        servers.extend(zone.settings.addresses.iter().map(|addr| (own.clone(), *addr)));
    }
    let mut seen = HashSet::new();
    servers.retain(|server| seen.insert(server.clone()));
    servers
}

/// Addresses that were seen: most answers have one or two.
#[derive(Default)]
struct Unique {
    few: Vec<IpAddr>,
    many: HashSet<IpAddr>,
}

impl Unique {
    const FEW: usize = 16;

    fn is_new(&mut self, addr: IpAddr) -> bool {
        if self.few.contains(&addr) || (self.few.len() == Self::FEW && self.many.contains(&addr)) {
            return false;
        }
        match self.few.len() < Self::FEW {
            true => self.few.push(addr),
            false => drop(self.many.insert(addr)),
        }
        true
    }
}
