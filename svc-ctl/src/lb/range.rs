//! Ranges of addresses, as pools have them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::model::name::IpFamily;

/// Why a text is no range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RangeError {
    #[error("{0:?} is neither a CIDR nor a range (a-b)")]
    Unclear(String),
    #[error("the range {0} has addresses of two families")]
    TwoFamilies(String),
    #[error("the range {0} is backwards")]
    Backwards(String),
    #[error("{0} is not on its boundary: did you mean {1}?")]
    Boundary(String, IpNet),
    #[error("{0} has addresses that no Service can have (multicast, link-local, loopback, unspecified)")]
    OfNobody(String),
}

/// Addresses from the first to the last, of one family.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Range {
    pub(super) family: IpFamily,
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Range {
    fn new(first: IpAddr, last: IpAddr) -> Self {
        Self { family: IpFamily::of(first), first: number(first), last: number(last) }
    }

    pub(super) fn parse(text: &str) -> Result<Self, RangeError> {
        let unclear = || RangeError::Unclear(text.to_owned());
        let range = if let Some((first, last)) = text.split_once('-') {
            let parse = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| unclear());
            let (first, last) = (parse(first)?, parse(last)?);
            if IpFamily::of(first) != IpFamily::of(last) {
                return Err(RangeError::TwoFamilies(text.to_owned()));
            }
            if first > last {
                return Err(RangeError::Backwards(text.to_owned()));
            }
            Self::new(first, last)
        } else {
            let net: IpNet = text.trim().parse().map_err(|_| unclear())?;
            if net.trunc() != net {
                return Err(RangeError::Boundary(text.to_owned(), net.trunc()));
            }
            Self::of_net(net)
        };
        let of_nobody = ["0.0.0.0/32", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"];
        let of_nobody = of_nobody.iter().filter_map(|net| net.parse().ok()).map(Self::of_net);
        match of_nobody.into_iter().any(|other| other.overlaps(&range)) {
            true => Err(RangeError::OfNobody(text.to_owned())),
            false => Ok(range),
        }
    }

    pub(super) fn of_net(net: IpNet) -> Self {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let span = 1_u128.checked_shl(bits).map_or(u128::MAX, |count| count - 1);
        let first = number(net.network());
        Self { family: IpFamily::of(net.addr()), first, last: first + span }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        IpFamily::of(address) == self.family && (self.first..=self.last).contains(&number(address))
    }
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

pub(super) fn address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::from(number as u32).into(),
        IpFamily::V6 => Ipv6Addr::from(number).into(),
    }
}

/// Sorts ranges and merges overlapping ones.
pub(super) fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut all: Vec<Range> = Vec::new();
    for range in ranges {
        match all.last_mut().filter(|last| last.overlaps(&range)) {
            Some(last) => last.last = last.last.max(range.last),
            None => all.push(range),
        }
    }
    all
}
