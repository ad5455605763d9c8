//! Frames with VLAN tags at TC: the kernel has moved the outer tag from the frame into the skb (`skb_vlan_untag`),
//! which BPF_PROG_TEST_RUN cannot do.

use std::io;
use std::os::fd::BorrowedFd;

use crate::bpf::{self, Prelude};

/// Ethernet types of tags: a VLAN's (IEEE 802.1Q), and a provider's around it (802.1ad).
pub const C_TAG: u16 = 0x8100;
pub const S_TAG: u16 = 0x88a8;

/// Octets before a tag.
const MACS: usize = 12;

/// Offsets in `struct __sk_buff` of two words of the socket buffer's scratch space, through which the caller passes
/// the tag.
const CONTROL: u16 = 48;
const KIND: u16 = 52;

const HELPER_SKB_VLAN_PUSH: u32 = 18;

/// A tag: its Ethernet type; priority (three bits), a flag, and the VLAN id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tag {
    pub kind: u16,
    pub control: u16,
}

impl Tag {
    pub const fn new(kind: u16, control: u16) -> Self {
        Self { kind, control }
    }

    pub fn octets(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.kind.to_be_bytes(), self.control.to_be_bytes());
        [a, b, c, d]
    }

    /// Passes the tag in the context of a test run.
    pub fn write_to(self, skb: &mut [u8]) {
        skb[usize::from(CONTROL)..][..4].copy_from_slice(&u32::from(self.control).to_ne_bytes());
        skb[usize::from(KIND)..][..4].copy_from_slice(&u32::from(self.kind.to_be()).to_ne_bytes());
    }
}

/// The frame without its outer tag, and the tag.
pub fn untagged(frame: &[u8]) -> (Option<Tag>, Vec<u8>) {
    if let Some((macs, [a, b, c, d, rest @ ..])) = frame.split_at_checked(MACS) {
        let tag = Tag::new(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        if [C_TAG, S_TAG].contains(&tag.kind) {
            return (Some(tag), [macs, rest].concat());
        }
    }
    (None, frame.to_vec())
}

/// Sets the skb's tag before the program runs.
pub fn tagger(program: BorrowedFd<'_>) -> io::Result<Prelude> {
    let push = [bpf::load_word(3, 1, CONTROL), bpf::load_word(2, 1, KIND), bpf::call(HELPER_SKB_VLAN_PUSH)];
    Prelude::before(program, &push)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outer_tag_is_removed() {
        let macs = [7; 12];
        let frame = [&macs[..], &[0x88, 0xa8, 0, 5], &[0x81, 0, 0xa0, 9], &[8, 0, 0x45]].concat();
        let (tag, inner) = untagged(&frame);
        assert_eq!(tag, Some(Tag::new(S_TAG, 5)));
        let (tag, plain) = untagged(&inner);
        assert_eq!(tag, Some(Tag::new(C_TAG, 0xa009)));
        assert_eq!(plain, [&macs[..], &[8, 0, 0x45]].concat());
        assert_eq!(untagged(&plain), (None, plain.clone()));
    }
}
