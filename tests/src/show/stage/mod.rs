//! What a show stands on: where its clients are, what is done to the servers, and who should answer then.

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
use crate::agent::{Agent, Named, Via};

/// Made when the curtain rises; dropping it removes all that it made.
pub(super) trait Stage: Sized + 'static {
    /// Each has an equal part of the time.
    const ACTS: &'static [Act<Self>];
    /// What an act does shows in the traffic within this time.
    const CHANGE_LIMIT: Duration;
    /// Characters of the servers' names, about.
    const NAME_WIDTH: usize;

    fn make(screen: &Screen) -> Result<Self>;

    /// Who asks whom, from the first act to the last.
    fn clients(&self) -> Result<Vec<Client>>;

    /// In what those who answered lately differ from those who should by now.
    fn wrong(&mut self, answered: &BTreeSet<&str>) -> Result<Option<String>>;

    /// What a person wants to read beside a failed request.
    fn diagnosis(&self) -> String;

    /// What to type while the show stands: every line works as printed, in another terminal.
    fn by_hand(&mut self) -> Result<String>;
}

pub(super) struct Act<S> {
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
    Name(Named),
}
