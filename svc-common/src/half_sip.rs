//! HalfSipHash-1-3, a keyed hash (Aumasson and Bernstein, "SipHash: a fast short-input PRF"; the kernel has it as
//! `hsiphash` on 32-bit machines).

/// The state of a hash. Octets are taken as they lie in the packet, first octet lowest.
#[derive(Clone, Copy, Debug)]
pub struct HalfSip([u32; 4]);

impl HalfSip {
    /// The secret's low word is the first half of the key.
    #[inline(always)]
    pub const fn new(secret: u64) -> Self {
        let (low, high) = (secret as u32, (secret >> 32) as u32);
        Self([low, high, low ^ 0x6c79_6765, high ^ 0x7465_6462])
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        b = b.rotate_left(5) ^ a;
        a = a.rotate_left(16);
        c = c.wrapping_add(d);
        d = d.rotate_left(8) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(7) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(13) ^ c;
        c = c.rotate_left(16);
        Self([a, b, c, d])
    }

    /// Adds a word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u32) -> Self {
        let [a, b, c, d] = self.0;
        let [a, b, c, d] = Self([a, b, c, d ^ word]).round().0;
        Self([a ^ word, b, c, d])
    }

    /// The hash after the last octets (at most three), given as a word. `octets` is the length of the whole input.
    #[inline(always)]
    pub const fn finish(self, octets: u32, last: u32) -> u32 {
        let [a, b, c, d] = self.word(octets << 24 | last).0;
        let [_, b, _, d] = Self([a, b, c ^ 0xff, d]).round().round().round().0;
        b ^ d
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the kernel's lib/tests/siphash_kunit.c (`test_vectors_hsiphash` for 32-bit machines): the octets 0, 1, 2,
    /// ... under the key 0, 1, ... 7.
    #[test]
    fn the_hash_is_half_sip_hash_1_3() {
        let whole = |words: u32| {
            let word = |n: u32| u32::from_le_bytes([4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3].map(|o| o as u8));
            let start = HalfSip::new(0x0706_0504_0302_0100);
            (0..words).fold(start, |hash, n| hash.word(word(n)))
        };
        assert_eq!(whole(0).finish(0, 0), 0x5814_c896);
        assert_eq!(whole(0).finish(3, 0x0002_0100), 0x0153_9939);
        assert_eq!(whole(1).finish(4, 0), 0x7e05_9ea6);
        assert_eq!(whole(2).finish(8, 0), 0x5779_99b1);
    }
}
