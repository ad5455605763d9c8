//! The packet between `data` and `data_end`. All packet-pointer code is here.

use aya_ebpf::bindings::__sk_buff;
use svc_common::wire::cursor::{Cursor, Plain};

/// A packet's linear part. It must be taken again after every helper that may move the packet.
#[derive(Clone, Copy)]
pub struct Frame {
    pub data: usize,
    pub end: usize,
    /// Null at XDP.
    pub skb: *const __sk_buff,
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

    #[inline(always)]
    fn is_segments(&self) -> bool {
        // SAFETY: the program's own context.
        !self.skb.is_null() && unsafe { (*self.skb).gso_size } != 0
    }
}
