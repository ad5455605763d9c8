//! The backends of an extent.

use svc_common::abi::Extent;

use crate::maps::SELECTION;

/// Stands for "no backend"; no backend has this id.
pub const NO_BACKEND: u32 = 0;

/// The backend at an index of an extent. A pinned table may hold garbage: an index beyond the extent has no backend.
#[inline(always)]
pub fn member(extent: &Extent, at: u32) -> u32 {
    if at >= extent.count {
        return NO_BACKEND;
    }
    selected(extent.first.wrapping_add(at)).unwrap_or(NO_BACKEND)
}

/// The backend id at a place of the selection table.
#[inline(always)]
pub fn selected(place: u32) -> Option<u32> {
    SELECTION.get(place).copied()
}
