//! Bounded reads from a packet, without pointers in the interface: by the verifier's rules in the kernel, from a
//! slice on the host.

/// Types that any bytes make a valid value of.
///
/// # Safety
/// Integers and `repr(C)` structs of them without padding, aligned to two octets at most (a packet promises no more).
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),+) => {$(
        const _: () = assert!(core::mem::align_of::<$type>() <= 2);
        // SAFETY: integers only; alignment checked above.
        unsafe impl $crate::wire::cursor::Plain for $type {}
    )+};
}
pub(crate) use plain;

plain!(u8, u16, [u16; 2], [u16; 4], [u16; 6], [u16; 8], [u16; 10]);

/// A packet that can be read.
pub trait Cursor {
    /// The value `offset` octets from the packet's first, or nothing if it does not lie within.
    fn read<T: Plain>(&self, offset: usize) -> Option<T>;

    /// It is many segments in one, as only the kernel makes them.
    fn is_segments(&self) -> bool {
        false
    }
}

impl Cursor for [u8] {
    fn read<T: Plain>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice holds size_of::<T>() octets, and any octets make a Plain value.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}
