//! What the people who own a Service should hear.

use super::name::ServiceName;
use super::rejected::Rejected;

/// Something that does not work for a Service.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Warning {
    pub service: ServiceName,
    pub reason: Reason,
    /// In plain words.
    pub note: String,
}

impl Warning {
    /// Of what was refused of a Service.
    pub fn of(rejected: &Rejected) -> Option<Self> {
        let service = rejected.service.clone()?;
        let note = format!("{}: {}", rejected.field, rejected.reason);
        Some(Self { service, reason: Reason::Refused, note })
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// A part of it is refused.
    Refused,
    /// Its health check node port cannot be opened.
    HealthPort,
    /// SCTP from a node's own network is not translated.
    SctpFromNodes,
    /// SCTP in fragments is not translated.
    SctpFragments,
}

impl Reason {
    /// A word for machines, in camel case.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::HealthPort => "FailedToStartServiceHealthcheck",
            Self::SctpFromNodes => "SctpFromNodesNotServed",
            Self::SctpFragments => "SctpFragmentsDropped",
        }
    }

    /// What is not done, in a word.
    pub const fn action(self) -> &'static str {
        match self {
            Self::Refused => "Serve",
            Self::HealthPort => "Listen",
            Self::SctpFromNodes | Self::SctpFragments => "Translate",
        }
    }

    /// It is so on every node: one that tells is enough.
    pub const fn is_everywhere(self) -> bool {
        match self {
            Self::HealthPort => false,
            Self::Refused | Self::SctpFromNodes | Self::SctpFragments => true,
        }
    }
}
