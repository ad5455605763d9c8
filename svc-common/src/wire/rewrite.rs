//! Writes a translation into an IP header. The transport checksum is updated by the hooks, each in its own way.

use super::checksum::Wsum;
use super::cursor::Plain;
use super::ip::{Ipv4Header, Ipv6Header, halves_v4, halves_v6};
use super::parse::Parse;
use crate::addr::{AddrV4, AddrV6};
use crate::family::{V4, V6};

/// A copy of an IP header without options, for both families. An IPv4 header fills only the first words.
pub type HeaderWords = [u32; 10];

/// Families whose header can be rewritten.
pub trait Rewrite: Parse {
    type Header: Plain;

    /// Replaces the addresses, updates the header checksum (IPv4) by `delta`, and takes `hops` off the time to live.
    fn rewrite(header: &mut Self::Header, src: Self::Addr, dst: Self::Addr, delta: Wsum, hops: u8);

    /// The same in a copy of a header, word by word, if the delta is not known. Returns the delta.
    fn readdress(header: &mut HeaderWords, src: &Self::Addr, dst: &Self::Addr, hops: u8) -> Wsum;

    /// Source and destination of such a copy.
    fn addresses(header: &HeaderWords, src: &mut Self::Addr, dst: &mut Self::Addr);
}

impl Rewrite for V4 {
    type Header = Ipv4Header;

    #[inline(always)]
    fn rewrite(header: &mut Ipv4Header, src: AddrV4, dst: AddrV4, delta: Wsum, hops: u8) {
        header.src = halves_v4(src);
        header.dst = halves_v4(dst);
        header.ttl = header.ttl.wrapping_sub(hops);
        // The time to live is the first octet of its 16-bit word.
        let hop_delta = Wsum::ZERO.minus(Wsum(u16::from_ne_bytes([hops, 0]) as u32));
        header.check = delta.plus(hop_delta).apply(header.check);
    }

    #[inline(always)]
    fn readdress(header: &mut HeaderWords, src: &AddrV4, dst: &AddrV4, hops: u8) -> Wsum {
        let old = Wsum::ZERO.add_word(header[3]).add_word(header[4]);
        let delta = Wsum::ZERO.add_word(src.be()).add_word(dst.be()).minus(old);
        (header[3], header[4]) = (src.be(), dst.be());
        let [ttl, proto, high, low] = header[2].to_ne_bytes();
        let hop_delta = Wsum::ZERO.minus(Wsum(u16::from_ne_bytes([hops, 0]) as u32));
        let [high, low] = delta.plus(hop_delta).apply(u16::from_ne_bytes([high, low])).to_ne_bytes();
        header[2] = u32::from_ne_bytes([ttl.wrapping_sub(hops), proto, high, low]);
        delta
    }

    #[inline(always)]
    fn addresses(header: &HeaderWords, src: &mut AddrV4, dst: &mut AddrV4) {
        (*src, *dst) = (AddrV4::from_be(header[3]), AddrV4::from_be(header[4]));
    }
}

impl Rewrite for V6 {
    type Header = Ipv6Header;

    #[inline(always)]
    fn rewrite(header: &mut Ipv6Header, src: AddrV6, dst: AddrV6, _delta: Wsum, hops: u8) {
        header.src = halves_v6(src);
        header.dst = halves_v6(dst);
        header.hop_limit = header.hop_limit.wrapping_sub(hops);
    }

    #[inline(always)]
    fn readdress(header: &mut HeaderWords, src: &AddrV6, dst: &AddrV6, hops: u8) -> Wsum {
        let mut delta = Wsum::ZERO;
        let (src, dst) = (src.words(), dst.words());
        let mut put = |at: usize, word: u32| {
            delta = delta.add_word(word).add_word(!header[at]);
            header[at] = word;
        };
        put(2, src[0]);
        put(3, src[1]);
        put(4, src[2]);
        put(5, src[3]);
        put(6, dst[0]);
        put(7, dst[1]);
        put(8, dst[2]);
        put(9, dst[3]);
        let [high, low, next, limit] = header[1].to_ne_bytes();
        header[1] = u32::from_ne_bytes([high, low, next, limit.wrapping_sub(hops)]);
        delta
    }

    #[inline(always)]
    fn addresses(header: &HeaderWords, src: &mut AddrV6, dst: &mut AddrV6) {
        *src = AddrV6::from_be([header[2], header[3], header[4], header[5]]);
        *dst = AddrV6::from_be([header[6], header[7], header[8], header[9]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::addr_delta;

    #[test]
    fn a_header_in_words_is_rewritten_as_one_in_the_packet() {
        let (src, dst) = (AddrV4::new([10, 0, 0, 1]), AddrV4::new([192, 0, 2, 200]));
        let octets: [u8; 20] =
            [0x45, 0, 0, 40, 1, 2, 0, 0, 64, 6, 0x12, 0x34, 1, 2, 3, 4, 250, 251, 252, 253];
        let mut words: HeaderWords = [0; 10];
        for (word, four) in words.iter_mut().zip(octets.chunks(4)) {
            *word = u32::from_ne_bytes(four.try_into().unwrap());
        }
        let (mut old_src, mut old_dst) = Default::default();
        V4::addresses(&words, &mut old_src, &mut old_dst);
        assert_eq!((old_src.octets(), old_dst.octets()), ([1, 2, 3, 4], [250, 251, 252, 253]));
        let delta = addr_delta::<V4>((old_src, old_dst), (src, dst));
        // SAFETY: 20 octets of integers.
        let mut header: Ipv4Header = unsafe { octets.as_ptr().cast::<Ipv4Header>().read_unaligned() };
        V4::rewrite(&mut header, src, dst, delta, 1);
        assert_eq!(V4::readdress(&mut words, &src, &dst, 1).fold(), delta.fold());
        // SAFETY: 20 octets of integers.
        let got: Ipv4Header = unsafe { words.as_ptr().cast::<Ipv4Header>().read_unaligned() };
        assert_eq!((got.check, got.ttl, got.src, got.dst), (header.check, 63, header.src, header.dst));
    }
}
