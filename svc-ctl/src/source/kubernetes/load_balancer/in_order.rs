//! The order in which statuses are written. Pure.
//!
//! An address is in the status of one Service at a time, unless Services share it: it is taken back before it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::name::ServiceName;
use crate::source::kubernetes::outbox::status::{Outcome, Verdict};

/// The outcomes that may be written now: first those that take an address back, then those that give. An outcome with an address
/// that another Service still has waits until that Service's new status has come back. If it takes an address back at the
/// same time, it is written without the other's address, so that two Services may exchange theirs.
pub fn in_order(
    outcomes: &BTreeMap<ServiceName, Outcome>,
    current: &BTreeMap<ServiceName, Vec<IpAddr>>,
) -> Vec<(ServiceName, Outcome)> {
    let mut leaving: BTreeMap<IpAddr, BTreeSet<&ServiceName>> = BTreeMap::new();
    for (name, addresses) in current {
        let stays = |ip: &&IpAddr| outcomes.get(name).is_none_or(|outcome| outcome.addresses.contains(*ip));
        for ip in addresses.iter().filter(|ip| !stays(ip)) {
            leaving.entry(*ip).or_default().insert(name);
        }
    }
    let (mut first, mut then) = (Vec::new(), Vec::new());
    for (name, outcome) in outcomes {
        let has = current.get(name).map_or(&[][..], Vec::as_slice);
        let other =
            |ip: &IpAddr| leaving.get(ip).and_then(|names| names.iter().find(|other| **other != name));
        let blocked = outcome.addresses.iter().find_map(|ip| Some((*ip, *other(ip)?)));
        let gives_up = has.iter().any(|ip| !outcome.addresses.contains(ip));
        match (gives_up, blocked) {
            (true, None) => first.push((name.clone(), outcome.clone())),
            (true, Some((ip, other))) => {
                first.push((name.clone(), without_others(outcome, ip, other, &leaving, name)))
            }
            (false, None) => then.push((name.clone(), outcome.clone())),
            (false, Some(_)) => {}
        }
    }
    first.extend(then);
    first
}

/// The outcome without addresses that other Services still have.
fn without_others(
    outcome: &Outcome,
    ip: IpAddr,
    other: &ServiceName,
    leaving: &BTreeMap<IpAddr, BTreeSet<&ServiceName>>,
    name: &ServiceName,
) -> Outcome {
    let is_others =
        |ip: &&IpAddr| leaving.get(ip).is_some_and(|names| names.iter().any(|other| *other != name));
    let text = format!("{ip} is still in the status of Service {other}");
    Outcome {
        addresses: outcome.addresses.iter().filter(|ip| !is_others(ip)).copied().collect(),
        verdict: Some(Verdict { is_satisfied: false, reason: "Taken", text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services as `name had -> has`, and the writes in their order.
    fn written(services: &[&str]) -> Vec<String> {
        let (mut outcomes, mut current) = (BTreeMap::new(), BTreeMap::new());
        for text in services {
            let (name, change) = text.split_once(": ").unwrap();
            let (had, has) = change.split_once("->").unwrap();
            let ips =
                |text: &str| text.split_whitespace().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
            let verdict = Some(Verdict { is_satisfied: true, reason: "Assigned", text: String::new() });
            let name = ServiceName::new("shop", name);
            current.insert(name.clone(), ips(had));
            if has.trim() != "others" {
                outcomes.insert(name, Outcome { addresses: ips(has), verdict });
            }
        }
        let line = |(name, outcome): (ServiceName, Outcome)| {
            let ips: Vec<String> = outcome.addresses.iter().map(ToString::to_string).collect();
            format!("{} {} {}", name.name, ips.join(" "), outcome.verdict.unwrap().reason)
        };
        in_order(&outcomes, &current).into_iter().map(line).collect()
    }

    #[test]
    fn an_address_is_given_only_after_it_was_taken_back() {
        for (services, expected) in [
            // A move goes before a new Service, whatever their names.
            (
                &["a: -> 192.0.2.9", "b: 192.0.2.1 -> 192.0.2.2"][..],
                &["b 192.0.2.2 Assigned", "a 192.0.2.9 Assigned"][..],
            ),
            (&["a: -> 2001:db8::1", "b: 2001:db8::1 -> 2001:db8::2"], &["b 2001:db8::2 Assigned"]),
            (&["a: -> 192.0.2.1", "b: 192.0.2.1 ->"], &["b  Assigned"]),
            (
                &["a: -> 192.0.2.1", "b: 192.0.2.2 -> 192.0.2.2"],
                &["a 192.0.2.1 Assigned", "b 192.0.2.2 Assigned"],
            ),
            // Two Services share the address: neither gives it up.
            (
                &["a: -> 192.0.2.1", "b: 192.0.2.1 -> 192.0.2.1"],
                &["a 192.0.2.1 Assigned", "b 192.0.2.1 Assigned"],
            ),
            // Two that exchange, in two steps.
            (&["a: 192.0.2.1 -> 192.0.2.2", "b: 192.0.2.2 -> 192.0.2.1"], &["a  Taken", "b  Taken"]),
            (&["a: -> 192.0.2.2", "b: -> 192.0.2.1"], &["a 192.0.2.2 Assigned", "b 192.0.2.1 Assigned"]),
            // Only the other's address is left out.
            (
                &["a: 192.0.2.1 2001:db8::1 -> 192.0.2.2 2001:db8::1", "b: 192.0.2.2 ->"],
                &["a 2001:db8::1 Taken", "b  Assigned"],
            ),
            (&["a: -> 192.0.2.2", "b: 192.0.2.1 -> others"], &["a 192.0.2.2 Assigned"]),
        ] {
            assert_eq!(written(services), expected, "{services:?}");
        }
    }
}
