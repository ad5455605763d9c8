//! The files that are being written, according to inotify: half a file is not read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use tokio::time::Instant;

/// Events that come this close together are one edit.
pub const SETTLE_MILLIS: u64 = 10;
/// Editors move a file away before they write it anew: it is gone only after this.
const REMOVE_SETTLE_MILLIS: u64 = 100;
/// A file that is being written is left alone until its writer closes it, or at most this long.
pub const WRITING_SECS: u64 = 2;

/// Files that are being written, and since when.
#[derive(Debug, Default)]
pub struct Writers {
    since: BTreeMap<String, Instant>,
}

impl Writers {
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// Returns the time until the next scan of the folder, if one is needed.
    pub fn note(&mut self, event: &notify::Event) -> Option<Duration> {
        let names =
            event.paths.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
        let soon = Some(Duration::from_millis(SETTLE_MILLIS));
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                self.done(names);
                soon
            }
            // A link is complete from the start. For other files an event follows at the end of writing.
            EventKind::Modify(ModifyKind::Data(_)) | EventKind::Create(CreateKind::File) => {
                if event.paths.iter().any(|p| p.is_symlink()) {
                    return soon;
                }
                for name in names {
                    self.since.entry(name).or_insert_with(Instant::now);
                }
                None
            }
            EventKind::Access(_) => None,
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                self.done(names);
                Some(Duration::from_millis(REMOVE_SETTLE_MILLIS))
            }
            EventKind::Modify(ModifyKind::Name(_)) => {
                self.done(names);
                soon
            }
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => soon,
        }
    }

    fn done(&mut self, names: impl Iterator<Item = String>) {
        for name in names {
            self.since.remove(&name);
        }
    }

    pub fn writing(&mut self) -> BTreeSet<String> {
        self.since.retain(|_, since| since.elapsed() < Duration::from_secs(WRITING_SECS));
        self.since.keys().cloned().collect()
    }
}
