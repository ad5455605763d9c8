//! Ones'-complement sums and their deltas (RFC 1071, RFC 1624).
//!
//! Sums are taken over words as they lie in memory, so byte order never matters: the sum of swapped bytes is the
//! swapped sum (RFC 1071 section 2 B).

use crate::addr::Port;

/// A 32-bit ones'-complement sum, the kernel's `__wsum`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Wsum(pub u32);

impl Wsum {
    pub const ZERO: Self = Self(0);

    /// Adds a 32-bit word as it lies in memory.
    #[inline(always)]
    #[must_use]
    pub const fn add_word(self, word: u32) -> Self {
        let sum = self.0 as u64 + word as u64;
        Self((sum as u32).wrapping_add((sum >> 32) as u32))
    }

    #[inline(always)]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        self.add_word(other.0)
    }

    #[inline(always)]
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        self.add_word(!other.0)
    }

    /// The delta that undoes this one.
    #[inline(always)]
    #[must_use]
    pub const fn negated(self) -> Self {
        Self(!self.0)
    }

    /// The sum in 16 bits.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        let s = (self.0 & 0xffff) + (self.0 >> 16);
        ((s & 0xffff) + (s >> 16)) as u16
    }

    /// `stored` (a checksum as it lies in memory) after the summed data changed by this delta: RFC 1624, equation 3.
    #[inline(always)]
    pub const fn apply(self, stored: u16) -> u16 {
        !Self(!stored as u32 & 0xffff).plus(self).fold()
    }
}

/// Sum over 16-bit words.
#[inline(always)]
pub fn sum16<const N: usize>(words: &[u16; N]) -> Wsum {
    let mut sum = 0u32;
    for w in words {
        // At most 20 words here: no carry out of 32 bits.
        sum += *w as u32;
    }
    Wsum(sum)
}

/// Delta of replacing ports (source and destination).
#[inline(always)]
pub fn port_delta(old: (Port, Port), new: (Port, Port)) -> Wsum {
    let sum = |p: (Port, Port)| Wsum(p.0.be() as u32 + p.1.be() as u32);
    sum(new).minus(sum(old))
}

/// A value for a 16-bit checksum field inside quoted data. With it the sum over that data is the same whether or not
/// the network card or the stack later completes the field (CHECKSUM_PARTIAL).
///
/// `rest` is the sum over the data without the field. Completion replaces the field's `x` by `!(rest + x)`, which
/// makes the whole sum `!x`; leaving it alone makes it `rest + x`. They are equal for `x = !rest / 2`, and half of a
/// number modulo 65535 is that number rotated right by one.
#[inline(always)]
pub const fn completion_proof(rest: Wsum) -> u16 {
    (!rest.fold()).rotate_right(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::AddrV4;
    use crate::family::{V4, addr_delta};

    fn full(words: &[u16]) -> u16 {
        !words.iter().fold(Wsum::ZERO, |s, w| s.add_word(*w as u32)).fold()
    }

    #[test]
    fn a_delta_equals_a_full_recomputation() {
        let mut seed = 1u64;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as u16
        };
        for _ in 0..10_000 {
            let old: [u16; 6] = core::array::from_fn(|_| next());
            let new: [u16; 6] = [next(), next(), next(), next(), old[4], old[5]];
            let word = |w: &[u16]| AddrV4::from_be(w[0] as u32 | (w[1] as u32) << 16);
            let delta =
                addr_delta::<V4>((word(&old[0..]), word(&old[2..])), (word(&new[0..]), word(&new[2..])));
            let got = delta.apply(full(&old));
            let want = full(&new);
            // 0 and 0xffff are the same number in ones' complement; either may be stored.
            assert!(got == want || (got | want == 0xffff && got & want == 0), "{got:04x} {want:04x}");
            assert_eq!(delta.plus(delta.negated()).fold() % 0xffff, 0);
        }
    }

    #[test]
    fn a_completion_proof_checksum_has_the_same_sum_completed_or_not() {
        for rest in (0..=u16::MAX).step_by(7) {
            let rest = Wsum(rest as u32);
            let x = completion_proof(rest);
            let left_alone = rest.add_word(x as u32).fold();
            let completed = rest.add_word((!rest.add_word(x as u32).fold()) as u32).fold();
            assert_eq!(left_alone % 0xffff, completed % 0xffff);
        }
    }
}
