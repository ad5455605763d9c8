//! Result of one pass over one table.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::live::Live;
use crate::dataplane::entries::TableInfo;

/// A socket's cookie and its backend.
pub type Translated = (u64, SocketAddr);

#[derive(Clone, Debug, Default)]
pub struct Pass {
    pub info: TableInfo,
    /// Entries left.
    pub present: u64,
    /// Entries removed, expired and stale ones.
    pub removed: u64,
    /// UDP flows removed because their endpoint is gone.
    pub stale: u64,
    /// Sockets whose endpoint is gone; their entries stay.
    pub stale_sockets: BTreeSet<Translated>,
    /// Live flows left.
    pub live: Live,
    /// Time until the first of the entries left may expire; `None` if none ever does.
    pub soonest: Option<Duration>,
}

impl Pass {
    /// Notes that an entry expires in `time`.
    pub fn expires_in(&mut self, time: Duration) {
        self.soonest = Some(self.soonest.map_or(time, |soonest| soonest.min(time)));
    }
}
