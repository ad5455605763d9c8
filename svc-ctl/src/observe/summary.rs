//! Summarises complaints for the status file, at a cost in proportion to the changes.

use std::collections::BTreeMap;

use imbl::ordmap::DiffItem;

use super::ledger::Complaints;
use super::status::{ComplaintStatus, ComplaintsStatus};
use crate::model::complaint::{Complaint, Kind, Origin};

/// Number of complaints in the status file.
const FIRST: usize = 20;

/// Counts of complaints, and the complaints that were counted.
#[derive(Debug, Default)]
pub struct Summary {
    counted: Complaints,
    by_kind: BTreeMap<Kind, u64>,
}

impl Summary {
    /// Counts the changes since the last call.
    pub fn update(&mut self, now: &Complaints) -> ComplaintsStatus {
        let before = std::mem::replace(&mut self.counted, now.clone());
        for item in before.diff(now) {
            let (gone, new) = match item {
                DiffItem::Add(_, new) => (&[][..], new.as_ref()),
                DiffItem::Remove(_, gone) => (gone.as_ref(), &[][..]),
                DiffItem::Update { old: (_, gone), new: (_, new) } => (gone.as_ref(), new.as_ref()),
            };
            new.iter().for_each(|complaint| *self.by_kind.entry(complaint.kind).or_default() += 1);
            for complaint in gone {
                let count = self.by_kind.entry(complaint.kind).or_default();
                *count = count.saturating_sub(1);
            }
        }
        self.by_kind.retain(|_, count| *count != 0);
        ComplaintsStatus {
            total: self.by_kind.values().sum(),
            by_kind: self.by_kind.iter().map(|(kind, count)| (kind_name(*kind), *count)).collect(),
            first: first(now).map(complaint_status).collect(),
        }
    }
}

/// The node's own complaints come first: a thousand refused Services must not hide that no program is attached.
fn first(complaints: &Complaints) -> impl Iterator<Item = &Complaint> {
    let of_node = [
        Origin::Source,
        Origin::ThisNode,
        Origin::Configuration,
        Origin::Listeners,
        Origin::Tables,
        Origin::Writes,
        Origin::Host,
        Origin::Programs,
        Origin::Sockets,
        Origin::Interfaces,
        Origin::Firewall,
    ];
    let is_of_service = {
        let of_node = of_node.clone();
        move |origin: &Origin| !of_node.contains(origin)
    };
    let of_services =
        complaints.iter().filter(move |(origin, _)| is_of_service(origin)).map(|(_, list)| list);
    let of_node = of_node.into_iter().filter_map(|origin| complaints.get(&origin));
    of_node.chain(of_services).flat_map(|list| list.iter()).take(FIRST)
}

/// A complaint in the form of files and sockets.
pub fn complaint_status(complaint: &Complaint) -> ComplaintStatus {
    ComplaintStatus {
        object: complaint.object.clone(),
        field: complaint.field.clone(),
        reason: complaint.reason.clone(),
        kind: kind_name(complaint.kind),
    }
}

/// A kind in JSON's spelling.
pub fn kind_name(kind: Kind) -> String {
    serde_json::to_value(kind).ok().and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::ServiceName;
    use crate::observe::ledger::Ledger;

    #[test]
    fn a_thousand_refused_services_are_counted_and_hide_no_complaint_of_the_node() {
        let (ledger, mut summary) = (Ledger::default(), Summary::default());
        let all = ledger.subscribe();
        for n in 0..1_000 {
            let service = ServiceName::new("default", &format!("s{n:04}"));
            let complaint = Complaint::of_service(Kind::Refused, &service, "spec.type", "odd");
            ledger.set(Origin::Service(service), vec![complaint]);
        }
        ledger.set(Origin::Host, vec![Complaint::new(Kind::Host, "Node n1", "ip_forward", "is 0")]);
        let status = summary.update(&all.borrow().clone());
        assert_eq!(status.total, 1_001);
        assert_eq!(status.by_kind, [("host".to_owned(), 1), ("refused".to_owned(), 1_000)].into());
        let objects: Vec<&str> = status.first.iter().map(|c| c.object.as_str()).collect();
        assert_eq!((objects.len(), &objects[..2]), (20, &["Node n1", "Service default/s0000"][..]));

        ledger.set(Origin::Host, vec![]);
        ledger.set(Origin::Service(ServiceName::new("default", "s0000")), vec![]);
        let status = summary.update(&all.borrow().clone());
        assert_eq!((status.total, status.by_kind), (999, [("refused".to_owned(), 999)].into()));
    }
}
