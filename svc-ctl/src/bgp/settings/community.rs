//! Communities (RFC 1997) and large communities (RFC 8092).

use std::fmt;
use std::str::FromStr;

use super::BgpError;

/// Names of well-known communities (IANA, BGP Well-known Communities).
const WELL_KNOWN: [(&str, u32); 6] = [
    ("graceful-shutdown", 0xFFFF_0000),
    ("accept-own", 0xFFFF_0001),
    ("blackhole", 0xFFFF_029A),
    ("no-export", 0xFFFF_FF01),
    ("no-advertise", 0xFFFF_FF02),
    ("no-export-subconfed", 0xFFFF_FF03),
];

/// A mark of a route, which routers act on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Community {
    Standard(u32),
    Large(u32, u32, u32),
}

impl Community {
    /// Octets in a message.
    pub const fn octets(&self) -> usize {
        match self {
            Self::Standard(_) => 4,
            Self::Large(..) => 12,
        }
    }
}

impl FromStr for Community {
    type Err = BgpError;

    fn from_str(text: &str) -> Result<Self, BgpError> {
        let unclear = || BgpError::Community(text.to_owned());
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Standard(*value));
        }
        let number = |part: &str| part.parse::<u32>().map_err(|_| unclear());
        if let Some(rest) = text.strip_prefix("large:") {
            let parts = rest.split(':').map(number).collect::<Result<Vec<_>, _>>()?;
            let [global, first, second] = parts[..] else { return Err(unclear()) };
            return Ok(Self::Large(global, first, second));
        }
        let (high, low) = text.split_once(':').ok_or_else(unclear)?;
        let half = |part: &str| part.parse::<u16>().map(u32::from).map_err(|_| unclear());
        Ok(Self::Standard(half(high)? << 16 | half(low)?))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xFFFF),
            Self::Large(global, first, second) => write!(f, "large:{global}:{first}:{second}"),
        }
    }
}
