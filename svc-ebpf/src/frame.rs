//! The packet between `data` and `data_end`: all packet-pointer code is here.

use svc_common::wire::cursor::{Cursor, Plain};

/// A packet's linear part. To be taken anew after every helper that may move the packet.
#[derive(Clone, Copy)]
pub struct Frame {
    pub data: usize,
    pub end: usize,
}

impl Frame {
    /// A pointer to a `T` that lies within the packet.
    #[inline(always)]
    pub fn at<T: Plain>(&self, offset: usize) -> Option<*mut T> {
        let start = self.data + offset;
        if start + size_of::<T>() > self.end { None } else { Some(start as *mut T) }
    }
}

impl Cursor for Frame {
    #[inline(always)]
    fn read<T: Plain>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` checked that the whole value lies before `end`; the verifier checks it again.
        self.at::<T>(offset).map(|p| unsafe { p.read() })
    }
}
