//! Rate, order, summaries and repetition, on a simulated clock.

use super::*;
use crate::model::complaint::{Kind, Origin};
use crate::model::name::ServiceName;

fn service(n: usize) -> ServiceName {
    ServiceName::new("shop", &format!("s{n:04}"))
}

/// An outbox, the current complaints, and the time.
struct Bench {
    outbox: Outbox,
    complaints: Complaints,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { outbox: Outbox::default(), complaints: Complaints::new(), now: Instant::now() }
    }

    fn set(&mut self, origin: Origin, complaints: &[Complaint]) {
        match complaints.is_empty() {
            true => self.complaints.remove(&origin),
            false => self.complaints.insert(origin, complaints.into()),
        };
    }

    fn refuse(&mut self, n: usize) {
        let complaint = Complaint::of_service(Kind::Refused, &service(n), "spec", "bad");
        self.set(Origin::Service(service(n)), &[complaint]);
    }

    fn accept(&mut self, n: usize) {
        self.set(Origin::Service(service(n)), &[]);
    }

    /// Notices sent within this time to an API server that accepts all; a Service's uid is its name.
    fn sent_within(&mut self, secs: u64) -> Vec<String> {
        self.outbox.turn(&self.complaints, self.now);
        let end = self.now + Duration::from_secs(secs);
        let mut said = Vec::new();
        loop {
            match self.outbox.next(self.now) {
                Next::Publish(notice, known_by) => {
                    let uid = notice.service.as_ref().map(|s| s.name.to_string());
                    if known_by.is_none() {
                        said.push(uid.clone().unwrap_or_else(|| notice.text.clone()));
                    }
                    self.outbox.settle(&notice, uid, self.now);
                }
                Next::Wait(until) if until < end => self.now = until,
                Next::Wait(_) | Next::Idle => break,
            }
        }
        self.now = end;
        said
    }
}

#[test]
fn at_most_ten_per_minute_are_sent_in_their_order() {
    let mut bench = Bench::new();
    (0..25).for_each(|n| bench.refuse(n));
    let names =
        |range: std::ops::Range<usize>| range.map(|n| service(n).name.to_string()).collect::<Vec<_>>();
    assert_eq!(bench.sent_within(60), names(0..10));
    assert_eq!(bench.sent_within(60), names(10..20));
    assert_eq!(bench.sent_within(60), names(20..25));
}

#[test]
fn notices_that_do_not_fit_into_the_queue_are_summarised_once() {
    let mut bench = Bench::new();
    (0..1000).for_each(|n| bench.refuse(n));
    let first = bench.sent_within(60);
    assert_eq!(first[0], "900 more complaints about Services; see svc-ctl status");
    assert_eq!(first.len(), 10);
    assert_eq!(bench.sent_within(9 * 60).len(), 90);
    // Further notices make no second summary before the first may have expired.
    bench.refuse(2000);
    assert_eq!(bench.sent_within(60), ["s0099", "s2000"]);
    assert_eq!(bench.sent_within(40 * 60).len(), 0);
}

#[test]
fn a_lasting_complaint_is_sent_again_before_its_event_expires() {
    let mut bench = Bench::new();
    bench.refuse(1);
    bench.refuse(2);
    assert_eq!(bench.sent_within(60), ["s0001", "s0002"]);
    bench.accept(2);
    assert!(bench.sent_within(53 * 60).is_empty());
    assert_eq!(bench.sent_within(5 * 60), ["s0001"]);
    assert_eq!(bench.sent_within(2 * 55 * 60), ["s0001", "s0001"]);
}

#[test]
fn a_recurring_complaint_is_not_sent_to_the_same_object_again() {
    let mut bench = Bench::new();
    bench.refuse(1);
    let host = [Complaint::new(Kind::Host, "bpffs", "", "not mounted")];
    bench.set(Origin::Host, &host);
    assert_eq!(bench.sent_within(60), ["s0001", "bpffs: not mounted"]);
    bench.accept(1);
    bench.set(Origin::Host, &[]);
    assert!(bench.sent_within(60).is_empty());
    bench.refuse(1);
    bench.set(Origin::Host, &host);
    assert!(bench.sent_within(60).is_empty());
    // Reading the object does not extend the lifetime of the Event.
    assert_eq!(bench.sent_within(54 * 60), ["s0001", "bpffs: not mounted"]);
    // A new object has not got the notice.
    bench.accept(1);
    bench.sent_within(1);
    bench.refuse(1);
    bench.outbox.turn(&bench.complaints, bench.now);
    let Next::Publish(notice, known_by) = bench.outbox.next(bench.now) else { panic!("it waits") };
    assert_eq!((notice.service, known_by), (Some(service(1)), Some("s0001".to_owned())));
}

#[test]
fn a_complaint_that_is_resolved_before_it_is_sent_is_never_sent() {
    let mut bench = Bench::new();
    (0..12).for_each(|n| bench.refuse(n));
    assert_eq!(bench.sent_within(30).len(), 10);
    bench.accept(10);
    assert_eq!(bench.sent_within(60), ["s0011"]);
    assert_eq!(bench.outbox.states.len(), 11);
}

#[test]
fn a_request_to_an_unreachable_api_server_is_repeated_until_it_is_answered() {
    let mut bench = Bench::new();
    bench.refuse(1);
    bench.outbox.turn(&bench.complaints, bench.now);
    let first = bench.outbox.next(bench.now);
    bench.refuse(0);
    bench.outbox.turn(&bench.complaints, bench.now);
    bench.now += Duration::from_secs(3 * 3600);
    assert_eq!(bench.outbox.next(bench.now), first);
    assert_eq!(bench.sent_within(60), ["s0001", "s0000"]);
}

#[test]
fn only_services_and_the_node_itself_get_events() {
    let mut bench = Bench::new();
    let of_node = [Kind::TableNearlyFull, Kind::Host, Kind::Node, Kind::Configuration, Kind::Failed];
    let kinds = [&[Kind::Source, Kind::Refused][..], &of_node[..]].concat();
    let complaints: Vec<_> =
        kinds.into_iter().map(|kind| Complaint::new(kind, format!("{kind:?}"), "", "bad")).collect();
    bench.set(Origin::Programs, &complaints);
    let said = of_node.map(|kind| format!("{kind:?}: bad"));
    assert_eq!(bench.sent_within(60), said);
}

#[test]
fn names_of_events_are_the_same_on_all_nodes_and_new_in_each_period() {
    use jiff::Timestamp;

    use super::event::event;

    let name = |kind, uid, node, second| {
        let complaint = Complaint::of_service(kind, &service(1), "spec", "bad");
        let notice = Notice::of(&complaint).expect("it is said");
        let now = Timestamp::from_second(second).expect("a time");
        event(&notice, Some(uid), node, now).metadata.name.expect("a name")
    };
    let first = name(Kind::Refused, "u", "node1", 3300);
    // Literal: a later build must make the same name.
    assert_eq!(first, "s0001.38a948ce38ffb3aa");
    assert_eq!(first, name(Kind::Refused, "u", "node2", 6599));
    assert_ne!(first, name(Kind::Refused, "u", "node1", 6600));
    assert_ne!(first, name(Kind::Refused, "other", "node1", 3300));
    assert_ne!(name(Kind::HealthPort, "u", "node1", 0), name(Kind::HealthPort, "u", "node2", 0));
}
