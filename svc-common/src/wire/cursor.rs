//! Bounded reads from a packet, without pointers in the interface. In the kernel they follow the verifier's rules; on
//! the host they read a slice.

/// The word whose memory holds these two halves.
#[inline(always)]
pub const fn word(halves: [u16; 2]) -> u32 {
    let [a, b] = [halves[0].to_ne_bytes(), halves[1].to_ne_bytes()];
    u32::from_ne_bytes([a[0], a[1], b[0], b[1]])
}

/// Types for which any octets are a valid value.
///
/// # Safety
/// Integers and `repr(C)` structs of them without padding, aligned to at most two octets (a packet guarantees no
/// more).
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),+) => {$(
        const _: () = assert!(core::mem::align_of::<$type>() <= 2);
        // SAFETY: integers only; alignment checked above.
        unsafe impl $crate::wire::cursor::Plain for $type {}
    )+};
}
pub(crate) use plain;

plain!(u8, u16, [u16; 2], [u16; 4], [u16; 6], [u16; 8], [u16; 10], [[u16; 8]; 2]);

/// A packet that can be read.
pub trait Cursor {
    /// The value at `offset` octets from the packet's first; `None` if it is not entirely within the packet.
    fn read<T: Plain>(&self, offset: usize) -> Option<T>;

    /// Two words at an offset that need not be aligned, in the packet's byte order.
    #[inline(always)]
    fn two_words(&self, offset: usize) -> Option<[u32; 2]> {
        let [a, b, c, d] = self.read::<[u16; 4]>(offset)?;
        Some([word([a, b]), word([c, d])])
    }

    /// Eight words, likewise.
    #[inline(always)]
    fn eight_words(&self, offset: usize) -> Option<[u32; 8]> {
        let mut words = [0; 8];
        for (pair, place) in words.as_chunks_mut::<2>().0.iter_mut().zip((offset..).step_by(8)) {
            *pair = self.two_words(place)?;
        }
        Some(words)
    }

    /// The packet holds several segments (GSO or GRO); only the kernel makes such packets.
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
