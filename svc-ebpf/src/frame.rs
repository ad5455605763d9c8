//! The packet between `data` and `data_end`. All packet-pointer code is here.

use core::arch::asm;

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
    fn two_words(&self, offset: usize) -> Option<[u32; 2]> {
        let p = self.at::<[u16; 4]>(offset)?;
        // SAFETY: `at` checked the bounds.
        unsafe { Some([load::<0>(p.cast()), load::<4>(p.cast())]) }
    }

    #[inline(always)]
    fn eight_words(&self, offset: usize) -> Option<[u32; 8]> {
        let p = self.at::<[[u16; 8]; 2]>(offset)?.cast();
        // SAFETY: as above.
        unsafe {
            Some([
                load::<0>(p),
                load::<4>(p),
                load::<8>(p),
                load::<12>(p),
                load::<16>(p),
                load::<20>(p),
                load::<24>(p),
                load::<28>(p),
            ])
        }
    }

    #[inline(always)]
    fn is_segments(&self) -> bool {
        // SAFETY: the program's own context.
        !self.skb.is_null() && unsafe { (*self.skb).gso_size } != 0
    }
}

/// The word at an offset from a place that need not be aligned. The verifier demands alignment only on machines without
/// unaligned access, and svc supports none of these; the compiler would load octet by octet.
///
/// # Safety
/// The word is within the packet.
#[inline(always)]
unsafe fn load<const OFFSET: usize>(place: *const u8) -> u32 {
    let word: u64;
    // SAFETY: the caller's. Not `pure`: the load must stay behind the check of the bounds.
    unsafe {
        asm!("{0} = *(u32 *)({1} + {2})", out(reg) word, in(reg) place, const OFFSET,
            options(nostack, readonly, preserves_flags));
    }
    word as u32
}
