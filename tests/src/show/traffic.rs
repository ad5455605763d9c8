//! Requests of all clients at a steady rate, and the servers that answered.

use anyhow::Result;

use super::environment::{Client, Target};
use crate::agent::{Job, Report};

/// Requests per second of each client.
const RATE: u32 = 60;

/// Requests that go on from start to stop.
pub(super) struct Traffic(Vec<Job>);

impl Traffic {
    pub(super) fn start(clients: &[Client]) -> Result<Self> {
        let start = |Client { agent, via, to }: &Client| match to {
            Target::Address(to) => agent.start_load(*via, *to, RATE),
            Target::Name(to) => agent.start_load_by_name(*via, to, RATE),
        };
        Ok(Self(clients.iter().map(start).collect::<Result<_>>()?))
    }

    /// The sum of all clients.
    pub(super) fn look(&self) -> Result<Report> {
        self.0.iter().map(Job::look).try_fold(Report::default(), |total, report| Ok(total.and(report?)))
    }

    pub(super) fn stop(self) -> Result<Report> {
        self.0.into_iter().map(Job::stop).try_fold(Report::default(), |total, report| Ok(total.and(report?)))
    }
}
