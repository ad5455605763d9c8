//! Addresses, ports and protocols exactly as they lie in a packet: network byte order, compared by words.

/// An IPv4 address; its bytes in memory are those on the wire.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddrV4(u32);

/// An IPv6 address; its bytes in memory are those on the wire.
#[repr(transparent)]
#[expect(clippy::derived_hash_with_manual_eq, reason = "the manual one is the same relation, spelt out")]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialOrd)]
pub struct AddrV6([u32; 4]);

// By words and without a branch: the derived comparison becomes a call to bcmp in BPF.
impl PartialEq for AddrV6 {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
    }
}

impl AddrV4 {
    /// From the bytes on the wire.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// From a word whose memory holds the bytes on the wire (as the kernel's `__be32`).
    #[inline(always)]
    pub const fn from_be(word: u32) -> Self {
        Self(word)
    }

    /// The bytes on the wire.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The word whose memory holds the bytes on the wire.
    #[inline(always)]
    pub const fn be(self) -> u32 {
        self.0
    }
}

impl AddrV6 {
    /// The words whose memory holds the bytes on the wire, in place.
    #[inline(always)]
    pub const fn words(&self) -> &[u32; 4] {
        &self.0
    }

    /// From four words whose memory holds the bytes on the wire (as the kernel's `__be32[4]`).
    #[inline(always)]
    pub const fn from_be(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// From the bytes on the wire.
    pub const fn new(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The bytes on the wire.
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = [
            self.0[0].to_ne_bytes(),
            self.0[1].to_ne_bytes(),
            self.0[2].to_ne_bytes(),
            self.0[3].to_ne_bytes(),
        ];
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    /// The words whose memory holds the bytes on the wire.
    #[inline(always)]
    pub const fn be(self) -> [u32; 4] {
        self.0
    }

    /// The IPv4 address of `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), as a socket of both families uses it.
    #[inline(always)]
    pub const fn to_mapped_v4(self) -> Option<AddrV4> {
        let w = self.0;
        if w[0] == 0 && w[1] == 0 && w[2] == 0xffff_u32.to_be() { Some(AddrV4(w[3])) } else { None }
    }

    /// `::ffff:a.b.c.d`.
    #[inline(always)]
    pub const fn from_mapped_v4(v4: AddrV4) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), v4.0])
    }
}

/// A TCP or UDP port; its bytes in memory are those on the wire. Zero stands for "any" where a type says so.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Port(u16);

impl Port {
    /// From a number in host order.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// From a half word whose memory holds the bytes on the wire.
    #[inline(always)]
    pub const fn from_be(be: u16) -> Self {
        Self(be)
    }

    /// The number in host order.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The half word whose memory holds the bytes on the wire.
    #[inline(always)]
    pub const fn be(self) -> u16 {
        self.0
    }
}

/// IP protocol numbers (IANA) that services are made of.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Proto(pub u8);

impl Proto {
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const SCTP: Self = Self(132);
    pub const ICMP: Self = Self(1);
    pub const ICMPV6: Self = Self(58);

    /// Protocols that services are made of.
    #[inline(always)]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_holds_the_bytes_on_the_wire() {
        assert_eq!(AddrV4::new([10, 0, 0, 1]).octets(), [10, 0, 0, 1]);
        assert_eq!(Port::new(0x1234).be().to_ne_bytes(), [0x12, 0x34]);
        let mut o = [0u8; 16];
        for (i, b) in o.iter_mut().enumerate() {
            *b = i as u8;
        }
        assert_eq!(AddrV6::new(o).octets(), o);
    }

    #[test]
    fn mapped_addresses_go_both_ways() {
        let v4 = AddrV4::new([192, 0, 2, 1]);
        let v6 = AddrV6::from_mapped_v4(v4);
        assert_eq!(&v6.octets()[10..], [0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(v6.to_mapped_v4(), Some(v4));
        assert_eq!(AddrV6::default().to_mapped_v4(), None);
    }
}
