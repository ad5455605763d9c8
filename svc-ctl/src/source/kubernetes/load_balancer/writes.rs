//! The status writes that still matter: writes that the watch has not shown yet, that changed nothing, or that failed.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::lb::claim::Millis;
use crate::model::complaint::{Complaint, Kind};
use crate::model::name::ServiceName;
use crate::source::kubernetes::failure::{Failure, Pauses};
use crate::source::kubernetes::outbox::status::Outcome;

/// A version of an object.
pub type Version = Option<String>;

/// The last write of each Service that still matters.
#[derive(Default)]
pub struct Writes {
    by_service: BTreeMap<ServiceName, Write>,
    /// No Service's status can be written.
    outage: Option<Failed>,
}

enum Write {
    /// The watch has not shown this version yet.
    Sent {
        version: Version,
        addresses: Vec<IpAddr>,
    },
    /// The API server has accepted the outcome and changed nothing of this version, so the watch will not show it.
    WithoutEffect {
        version: Version,
        outcome: Outcome,
    },
    Failed(Failed),
}

#[derive(Default)]
struct Failed {
    pauses: Pauses,
    retry_at: Millis,
    /// `None`: the Service has changed meanwhile.
    reason: Option<String>,
}

impl Failed {
    fn again(&mut self, failure: &Failure, now: Millis) {
        let pause = self.pauses.after(failure, false);
        self.retry_at = now + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let has_changed = matches!(failure.code, Some(404 | 409));
        self.reason = (!has_changed).then(|| failure.text.clone());
    }
}

impl Writes {
    /// The addresses of statuses that the watch has not shown yet.
    pub fn addresses(&self) -> BTreeMap<ServiceName, Vec<IpAddr>> {
        let sent = self.by_service.iter().filter_map(|(name, write)| match write {
            Write::Sent { addresses, .. } => Some((name.clone(), addresses.clone())),
            Write::WithoutEffect { .. } | Write::Failed(_) => None,
        });
        sent.collect()
    }

    pub fn may_write(&self, name: &ServiceName, version: &Version, outcome: &Outcome, now: Millis) -> bool {
        let is_open = self.outage.as_ref().is_none_or(|outage| now >= outage.retry_at);
        is_open
            && match self.by_service.get(name) {
                None => true,
                Some(Write::Sent { .. }) => false,
                Some(Write::WithoutEffect { version: known, outcome: same }) => {
                    known != version || same != outcome
                }
                Some(Write::Failed(failed)) => now >= failed.retry_at,
            }
    }

    /// The API server has accepted an outcome for a Service of version `before`, which is of version `after` now.
    pub fn accept(&mut self, name: ServiceName, before: &Version, after: Version, outcome: Outcome) {
        self.outage = None;
        let write = match *before == after {
            true => Write::WithoutEffect { version: after, outcome },
            false => Write::Sent { version: after, addresses: outcome.addresses },
        };
        self.by_service.insert(name, write);
    }

    /// Notes a failed write. Returns true if writes of other Services would fail as well.
    pub fn fail(&mut self, name: &ServiceName, failure: &Failure, now: Millis) -> bool {
        let is_outage = matches!(failure.code, None | Some(401 | 429 | 500..));
        if is_outage {
            self.outage.get_or_insert_default().again(failure, now);
            return true;
        }
        self.outage = None;
        let write = self.by_service.entry(name.clone()).or_insert_with(|| Write::Failed(Failed::default()));
        match write {
            Write::Failed(failed) => failed.again(failure, now),
            Write::Sent { .. } | Write::WithoutEffect { .. } => {
                let mut failed = Failed::default();
                failed.again(failure, now);
                *write = Write::Failed(failed);
            }
        }
        false
    }

    /// The watch, or a list, shows this version of a Service. A list may be older than a write.
    pub fn see(&mut self, name: &ServiceName, version: &Version) {
        let is_over = match self.by_service.get(name) {
            Some(Write::Sent { version: sent, .. }) => is_at_least(version, sent),
            Some(Write::Failed(failed)) => failed.reason.is_none(),
            Some(Write::WithoutEffect { .. }) | None => false,
        };
        if is_over {
            self.by_service.remove(name);
        }
    }

    /// Ends a round over all statuses. `differing` are the Services with a wrong status. The failures of all others are
    /// over.
    pub fn end_round(&mut self, differing: &BTreeSet<ServiceName>) {
        let is_over = |name: &ServiceName, write: &Write| {
            matches!(write, Write::Failed(_)) && !differing.contains(name)
        };
        self.by_service.retain(|name, write| !is_over(name, write));
        self.outage.take_if(|_| differing.is_empty());
    }

    pub fn remove(&mut self, name: &ServiceName) {
        self.by_service.remove(name);
    }

    /// Only these Services exist.
    pub fn retain(&mut self, exists: impl Fn(&ServiceName) -> bool) {
        self.by_service.retain(|name, _| exists(name));
    }

    /// The time after `now` at which the next failed write may be tried again.
    pub fn retry_at(&self, now: Millis) -> Option<Millis> {
        let failed = self.by_service.values().filter_map(|write| match write {
            Write::Failed(failed) => Some(failed.retry_at),
            Write::Sent { .. } | Write::WithoutEffect { .. } => None,
        });
        let outage = self.outage.as_ref().map(|outage| outage.retry_at);
        outage.into_iter().chain(failed).filter(|at| *at > now).min()
    }

    pub fn complaints(&self) -> Vec<Complaint> {
        let failed = self.by_service.iter().filter_map(|(name, write)| match write {
            Write::Failed(Failed { reason: Some(reason), .. }) => {
                let reason = format!("cannot be written: {reason}");
                Some(Complaint::of_service(Kind::NoAddress, name, "status.loadBalancer", reason))
            }
            _ => None,
        });
        let outage = self.outage.as_ref().and_then(|outage| outage.reason.clone());
        let outage = outage.map(|reason| {
            let reason = format!("cannot be written: {reason}");
            Complaint::new(Kind::Source, "Kubernetes API", "the status of Services", reason)
        });
        outage.into_iter().chain(failed).collect()
    }
}

/// Versions that are no numbers cannot be compared. Then the write is over; a wrong guess ends in a conflict.
fn is_at_least(seen: &Version, sent: &Version) -> bool {
    let number = |version: &Version| version.as_ref().and_then(|text| text.parse::<u64>().ok());
    match (number(seen), number(sent)) {
        (Some(seen), Some(sent)) => seen >= sent,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn web() -> ServiceName {
        ServiceName::new("shop", "web")
    }

    fn version(text: &str) -> Version {
        Some(text.to_owned())
    }

    fn outcome(ip: &str) -> Outcome {
        Outcome { addresses: vec![ip.parse().unwrap()], verdict: None }
    }

    fn failure(code: u16) -> Failure {
        let status: Status =
            serde_json::from_value(serde_json::json!({"code": code, "message": "no"})).unwrap();
        Failure::of_status(&status)
    }

    #[test]
    fn a_write_counts_until_its_version_is_seen_also_if_an_older_list_comes_first() {
        for (seen, is_over) in [("9", false), ("99", false), ("100", true), ("101", true), ("opaque", true)] {
            let mut writes = Writes::default();
            writes.accept(web(), &version("99"), version("100"), outcome("192.0.2.1"));
            writes.see(&web(), &version(seen));
            writes.retain(|_| true);
            assert_eq!(writes.addresses().is_empty(), is_over, "{seen}");
            assert_eq!(writes.may_write(&web(), &version(seen), &outcome("192.0.2.2"), 0), is_over, "{seen}");
        }
    }

    #[test]
    fn a_write_that_changed_nothing_is_not_repeated_and_holds_up_no_other() {
        let mut writes = Writes::default();
        writes.accept(web(), &version("7"), version("7"), outcome("2001:db8::1"));
        assert_eq!(writes.addresses(), BTreeMap::new());
        let may = |version_text, ip| writes.may_write(&web(), &version(version_text), &outcome(ip), 0);
        assert_eq!(
            [may("7", "2001:db8::1"), may("7", "2001:db8::2"), may("8", "2001:db8::1")],
            [false, true, true]
        );
    }

    #[test]
    fn a_refused_write_is_repeated_after_growing_pauses_and_named_and_others_are_written() {
        let (mut writes, mut now, mut pauses) = (Writes::default(), 0, Vec::new());
        let may = |writes: &Writes, now| writes.may_write(&web(), &version("1"), &outcome("192.0.2.1"), now);
        for _ in 0..9 {
            assert!(may(&writes, now));
            assert!(!writes.fail(&web(), &failure(403), now), "an outage");
            let retry_at = writes.retry_at(now).unwrap();
            assert!(!may(&writes, retry_at - 1));
            pauses.push(retry_at - now);
            now = retry_at;
        }
        assert!(pauses[0] <= 400 && pauses[8] >= 20_000, "{pauses:?}");
        assert!(writes.may_write(&ServiceName::new("shop", "other"), &None, &outcome("192.0.2.1"), 0));
        let complaints: Vec<String> = writes.complaints().iter().map(ToString::to_string).collect();
        assert!(
            complaints.len() == 1
                && complaints[0]
                    .starts_with("Service shop/web: status.loadBalancer: cannot be written: no (403)"),
            "{complaints:?}"
        );
        writes.accept(web(), &version("1"), version("2"), outcome("192.0.2.1"));
        assert_eq!((writes.complaints().len(), writes.retry_at(now)), (0, None));
    }

    #[test]
    fn a_service_that_changed_meanwhile_is_no_complaint_and_is_written_once_it_is_seen() {
        for code in [404, 409] {
            let mut writes = Writes::default();
            writes.fail(&web(), &failure(code), 0);
            assert_eq!(writes.complaints(), []);
            assert!(!writes.may_write(&web(), &version("1"), &outcome("192.0.2.1"), 0));
            writes.see(&web(), &version("2"));
            assert!(writes.may_write(&web(), &version("2"), &outcome("192.0.2.1"), 0));
        }
    }

    #[test]
    fn without_an_answer_no_service_is_written_until_the_pause_is_over() {
        for failure in [failure(503), failure(429), Failure::of_text("no answer".to_owned())] {
            let (mut writes, other) = (Writes::default(), ServiceName::new("shop", "other"));
            assert!(writes.fail(&web(), &failure, 0));
            let retry_at = writes.retry_at(0).unwrap();
            let may = |now| writes.may_write(&other, &None, &outcome("192.0.2.1"), now);
            assert_eq!([may(retry_at - 1), may(retry_at)], [false, true]);
            assert_eq!(writes.complaints().len(), 1);
        }
    }

    #[test]
    fn a_failure_is_over_when_the_status_is_as_it_should_be() {
        for code in [403, 503] {
            let mut writes = Writes::default();
            writes.fail(&web(), &failure(code), 0);
            writes.end_round(&[web()].into());
            assert_eq!((writes.complaints().len(), writes.retry_at(0).is_some()), (1, true), "{code}");
            writes.end_round(&BTreeSet::new());
            assert_eq!((writes.complaints().len(), writes.retry_at(0)), (0, None), "{code}");
        }
    }
}
