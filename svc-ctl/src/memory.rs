//! Keeps the daemon's memory small: glibc returns freed memory only on request, and has a heap for each thread.

use tokio::sync::watch;

use crate::reconcile::Progress;

/// Number of heaps, shared by all threads.
const HEAPS: libc::c_int = 2;
/// The alignment of `madvise`. Objects are linked for pages of at least this size.
const PAGE: usize = 4096;
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

/// Returns free memory to the system, and pages of the program itself, most of which are only used at the start.
pub fn give_back() {
    // SAFETY: the allocator returns free pages and moves nothing.
    unsafe { libc::malloc_trim(0) };
    // SAFETY: the function is of the type that is asked for, and uses no data.
    unsafe { libc::dl_iterate_phdr(Some(drop_pages), std::ptr::null_mut()) };
}

/// Drops the read-only pages of a loaded object. The kernel maps them again from the file when they are read next.
///
/// # Safety
/// `object` must come from `dl_iterate_phdr`.
unsafe extern "C" fn drop_pages(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: by the caller's promise; the headers live as long as the object is loaded.
    let (object, headers) = unsafe {
        let object = &*object;
        (object, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = (object.dlpi_addr + header.p_vaddr) as usize;
        let first = start - start % PAGE;
        let len = start + header.p_memsz as usize - first;
        // SAFETY: these pages are read-only, so that the contents that are mapped again are the same.
        unsafe { libc::madvise(first as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
    0
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
