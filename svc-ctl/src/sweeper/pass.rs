//! What one pass over one table found and removed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::live::Live;
use super::sockets::Translated;
use crate::dataplane::entries::TableInfo;

#[derive(Clone, Debug, Default)]
pub struct Pass {
    pub info: TableInfo,
    /// Entries that it left.
    pub present: u64,
    /// Entries that it removed, expired and stale ones.
    pub removed: u64,
    /// UDP flows that it ended because their endpoint is gone.
    pub stale: u64,
    /// Sockets whose endpoint is gone; their entries stay.
    pub stale_sockets: BTreeSet<Translated>,
    /// Flows that it left.
    pub live: Live,
    /// Until the first entry left may expire; nothing if none ever does.
    pub soonest: Option<Duration>,
}

impl Pass {
    /// An entry that is left expires in that time.
    pub fn expires_in(&mut self, time: Duration) {
        self.soonest = Some(self.soonest.map_or(time, |soonest| soonest.min(time)));
    }
}
