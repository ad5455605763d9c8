//! Keeps the daemon's memory small: glibc returns freed memory only on request, and has a heap for each thread.

use tokio::sync::watch;

use crate::reconcile::Progress;

/// Number of heaps, shared by all threads.
const HEAPS: libc::c_int = 2;
/// Planned Services after which freed memory is returned: an initial list, or a change of the node.
const MANY: u64 = 1_000;

/// Limits the number of heaps. Must be called before the first thread starts.
pub fn bound_heaps() {
    // SAFETY: sets an option of the allocator; no pointer is passed.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

/// Returns freed memory after large changes have come into force.
pub async fn run(mut progress: watch::Receiver<Progress>) -> anyhow::Result<()> {
    let mut last = Progress::default();
    loop {
        let now = progress.wait_for(|now| is_due(&last, now)).await?.clone();
        tokio::task::spawn_blocking(give_back).await?;
        last = now;
    }
}

/// Everything is in force, and since the last time programs were loaded, tables grew or many Services were planned.
fn is_due(last: &Progress, now: &Progress) -> bool {
    let has_begun = last.generation == 0 || now.growths != last.growths || now.planned >= last.planned + MANY;
    now.generation > 0 && now.pending_since_unix_ms.is_none() && has_begun
}

/// Returns free memory to the system.
pub fn give_back() {
    // SAFETY: the allocator returns free pages and moves nothing.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_at_the_first_state_in_force_and_after_large_changes() {
        let at =
            |generation, planned, growths| Progress { generation, planned, growths, ..Progress::default() };
        let none = Progress::default();
        assert!(!is_due(&none, &at(0, 9, 0)) && is_due(&none, &at(1, 9, 0)));
        assert!(!is_due(&at(1, 9, 0), &at(7, 1_008, 0)) && is_due(&at(1, 9, 0), &at(7, 1_009, 0)));
        assert!(is_due(&at(1, 9, 0), &at(2, 10, 1)));
        let pending = Progress { pending_since_unix_ms: Some(1), ..at(1, 9, 0) };
        assert!(!is_due(&none, &pending));
    }
}
