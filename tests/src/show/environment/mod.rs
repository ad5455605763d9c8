//! The environment of a show: its clients, changes of the servers, and the servers that should answer.

mod examples;
mod kubernetes;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

pub(super) use examples::Examples;
pub(super) use kubernetes::Kubernetes;

use super::screen::Screen;
use crate::agent::{Agent, NamedServer, Via};

/// Made at the start. Dropping it removes everything that it made.
pub(super) trait Environment: Sized + 'static {
    /// The parts of the show; each has an equal share of the time.
    const STEPS: &'static [Step<Self>];
    /// The effect of a part shows in the traffic within this time.
    const CHANGE_LIMIT: Duration;
    /// Approximate length of the servers' names.
    const NAME_WIDTH: usize;

    fn make(screen: &Screen) -> Result<Self>;

    /// The clients, from the first part to the last.
    fn clients(&self) -> Result<Vec<Client>>;

    /// The difference between the servers that answered recently and those that should; `None` if there is none.
    fn wrong(&mut self, answered: &BTreeSet<&str>) -> Result<Option<String>>;

    /// The page of node1's metrics.
    fn metrics_page(&self) -> Result<String>;

    /// Diagnostic output for a failed request.
    fn diagnosis(&self) -> String;

    /// Commands to type while the show is kept: every line works as printed, in another terminal.
    fn by_hand(&mut self) -> Result<String>;
}

pub(super) struct Step<S> {
    pub(super) name: &'static str,
    pub(super) begin: fn(&mut S, &Screen) -> Result<()>,
    /// Servers die in it: requests to them fail until that is noticed.
    pub(super) has_losses: bool,
}

pub(super) struct Client {
    pub(super) agent: Arc<Agent>,
    pub(super) via: Via,
    pub(super) to: Target,
}

pub(super) enum Target {
    Address(SocketAddr),
    /// Asked for anew for each request.
    Name(NamedServer),
}
