//! The checksum of SCTP (RFC 9260 appendix A): CRC32c, updated by a delta.
//!
//! A CRC is linear: after some bits are flipped, the new CRC is the old one XOR the CRC of the flipped bits alone.
//! The ports are the first four octets of a packet, so only the length of the rest must be known.

/// The generator, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Bits of a packet's length.
const LENGTH_BITS: u32 = 16;

/// The change of a packet's checksum when bits of its first four octets flip. `bits`: a word as it lies in the packet;
/// `length`: octets of the packet from there on, 65,535 at most. The result is a word in the packet's byte order.
#[inline(always)]
pub const fn delta(bits: u32, length: u32) -> u32 {
    let mut register = u32::from_le(bits);
    let mut n = 0;
    while n < LENGTH_BITS {
        let table = &ADVANCE[n as usize];
        let mut advanced = 0;
        let mut digit = 0;
        while digit < DIGITS {
            advanced ^= table[digit][(register >> (4 * digit)) as usize & 15];
            digit += 1;
        }
        // No branch: the verifier would walk both sides of each. Compilers do not turn the sign of a shifted word
        // into a branch.
        let all = sign(length << (31 - n));
        register = (advanced & all) | (register & !all);
        n += 1;
    }
    register.to_le()
}

/// All ones if the highest bit is set, else zero.
#[inline(always)]
const fn sign(word: u32) -> u32 {
    (word.cast_signed() >> 31).cast_unsigned()
}

/// The product of two polynomials modulo the generator, bits reversed.
const fn times(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted) = (0, b);
    let mut n = 0;
    while n < 32 {
        product ^= shifted & sign(a << n);
        shifted = (shifted >> 1) ^ (POLYNOMIAL & sign(shifted << 31));
        n += 1;
    }
    product
}

/// Hexadecimal digits of a register.
const DIGITS: usize = 8;

/// By `n`: the effect of 2^`n` zero octets on the register, as a sum over the register's hexadecimal digits. A table
/// replaces multiplication bit by bit, because the verifier would walk each round of that loop on each path.
const ADVANCE: [[[u32; 16]; DIGITS]; LENGTH_BITS as usize] = {
    let mut table = [[[0; 16]; DIGITS]; LENGTH_BITS as usize];
    // x itself: one bit of zeros. An octet is x to the power of 2^3.
    let mut power = 1 << 30;
    power = times(power, power);
    power = times(power, power);
    let mut n = 0;
    while n < LENGTH_BITS as usize {
        power = times(power, power);
        let mut at = 0;
        while at < 16 * DIGITS {
            table[n][at / 16][at % 16] = times(((at % 16) as u32) << (4 * (at / 16)), power);
            at += 1;
        }
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit over all octets, as the RFC has it.
    fn full(octets: &[u8]) -> u32 {
        let mut register = u32::MAX;
        for octet in octets {
            register ^= u32::from(*octet);
            for _ in 0..8 {
                register = (register >> 1) ^ if register & 1 == 1 { POLYNOMIAL } else { 0 };
            }
        }
        !register
    }

    #[test]
    fn the_sum_is_the_one_of_the_rfc() {
        // RFC 3720 appendix B.4: 32 octets of zeros.
        assert_eq!(full(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_delta_equals_a_full_recomputation() {
        let mut seed = 1u64;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as u32
        };
        for length in (8..400).chain([1480, 1500, 9000, 65_515]) {
            let mut packet: Vec<u8> = (0..length).map(|_| next() as u8).collect();
            packet[8..12.min(length)].fill(0);
            let old = full(&packet).to_le_bytes();
            let ports = [next() as u8, next() as u8, next() as u8, next() as u8];
            let flipped: [u8; 4] = core::array::from_fn(|i| packet[i] ^ ports[i]);
            packet[..4].copy_from_slice(&ports);
            let change = delta(u32::from_ne_bytes(flipped), length as u32).to_ne_bytes();
            let got: [u8; 4] = core::array::from_fn(|i| old[i] ^ change[i]);
            assert_eq!(got, full(&packet).to_le_bytes(), "{length} octets");
        }
    }
}
