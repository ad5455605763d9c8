//! Keeps the daemon small: glibc gives freed memory back only when asked, and keeps a heap for each thread.

use tokio::sync::watch;

use crate::reconcile::Progress;

/// Heaps that all threads share.
const HEAPS: libc::c_int = 2;
/// Services planned since the last time after which much may have been freed: a list, or a change of the node.
const MANY: u64 = 1_000;

/// Bounds the number of heaps. To be called before the first thread is started.
pub fn bound_heaps() {
    // SAFETY: an option of the allocator; no memory is handed over.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

/// Gives back what was freed once a state is in force that took much to make.
pub async fn run(mut progress: watch::Receiver<Progress>) -> anyhow::Result<()> {
    let mut last = Progress::default();
    loop {
        let now = progress.wait_for(|now| is_due(&last, now)).await?.clone();
        tokio::task::spawn_blocking(give_back).await?;
        last = now;
    }
}

/// Everything is in force, and the programs have been loaded, tables have grown or many Services have been planned.
fn is_due(last: &Progress, now: &Progress) -> bool {
    let has_begun = last.generation == 0 || now.growths != last.growths || now.planned >= last.planned + MANY;
    now.generation > 0 && now.pending_since_unix_ms.is_none() && has_begun
}

/// Gives free memory back to the system.
pub fn give_back() {
    // SAFETY: the allocator's own business; it returns free pages and moves nothing.
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
