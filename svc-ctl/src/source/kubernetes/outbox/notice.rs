//! A text to send about an object.

use crate::model::complaint::{Complaint, Kind};
use crate::model::name::ServiceName;

/// A notice stands for all complaints with the same text about the same object.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Notice {
    /// `None`: the Node.
    pub service: Option<ServiceName>,
    pub kind: Kind,
    pub text: String,
    /// Summarises notices that did not fit into the queue.
    pub is_summary: bool,
}

impl Notice {
    /// The notice for a complaint. `None` if it is not sent, for example a complaint that the API server is away.
    pub fn of(complaint: &Complaint) -> Option<Self> {
        let kind = complaint.kind;
        let is_of_node = match kind {
            // NodeLocal DNSCache has the address on purpose. Conflicts are for the node's operator.
            Kind::OwnAddress | Kind::Conflict => return None,
            Kind::Source | Kind::NotReady => return None,
            Kind::TableNearlyFull
            | Kind::Host
            | Kind::Node
            | Kind::Peer
            | Kind::Configuration
            | Kind::Failed => true,
            Kind::NoAddress
            | Kind::AddressInUse
            | Kind::Refused
            | Kind::NoRoom
            | Kind::HealthPort
            | Kind::SctpFromNodes
            | Kind::SctpFragments => false,
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

    /// One notice on the Node instead of many on Services.
    pub fn summary(more: usize) -> Self {
        let text = format!("{more} more complaints about Services; see svc-ctl status");
        Self { service: None, kind: Kind::Refused, text, is_summary: true }
    }
}
