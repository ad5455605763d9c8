//! One thing to say of one object.

use crate::model::complaint::{Complaint, Kind};
use crate::model::name::ServiceName;

/// Complaints that say the same of the same object are one notice.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Notice {
    /// None: the Node.
    pub service: Option<ServiceName>,
    pub kind: Kind,
    pub text: String,
    /// Stands for notices that found no place to wait.
    pub is_summary: bool,
}

impl Notice {
    /// What is to be said of a complaint, if anything: the API server need not hear that it is away.
    pub fn of(complaint: &Complaint) -> Option<Self> {
        let kind = complaint.kind;
        let is_of_node = match kind {
            // NodeLocal DNSCache is meant to have the address; and what may be in the way is for whoever runs the node.
            Kind::OwnAddress | Kind::Conflict => return None,
            Kind::Source => return None,
            Kind::TableNearlyFull | Kind::Host | Kind::Node | Kind::Configuration | Kind::Failed => true,
            Kind::Refused | Kind::NoRoom | Kind::HealthPort | Kind::SctpFromNodes | Kind::SctpFragments => {
                false
            }
        };
        let Complaint { field, reason, service, .. } = complaint;
        let text = match (service, field.as_str()) {
            (None, _) if is_of_node => complaint.to_string(),
            (None, _) => return None,
            (Some(_), "") => reason.clone(),
            (Some(_), field) => format!("{field}: {reason}"),
        };
        Some(Self { service: service.clone(), kind, text, is_summary: false })
    }

    /// On the Node, in place of many on Services.
    pub fn summary(more: usize) -> Self {
        let text = format!("{more} more complaints about Services; see svc-ctl status");
        Self { service: None, kind: Kind::Refused, text, is_summary: true }
    }
}
