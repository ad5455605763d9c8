//! Contents of a bulk exchange, known to both ends: many octets in each direction.

/// Octets of contents in a datagram, as a careful application sends them.
pub const PIECE: usize = 1200;

#[derive(Clone, Copy, Debug)]
pub enum Direction {
    Up,
    Down,
}

/// The contents at an offset. They have no period that could hide a segment size, and differ by direction.
pub fn pattern(direction: Direction, offset: usize, length: usize) -> Vec<u8> {
    let salt = match direction {
        Direction::Up => 0x9e37,
        Direction::Down => 0x7f4a,
    };
    (offset..offset + length).map(|at| (at.wrapping_mul(at ^ salt) >> 7).to_le_bytes()[0]).collect()
}

/// A datagram of the exchange: a kind, a number, contents.
pub struct Piece<'a> {
    pub kind: u8,
    pub number: u32,
    pub payload: &'a [u8],
}

impl<'a> Piece<'a> {
    pub const UP: u8 = 1;
    pub const ACK: u8 = 2;
    pub const WANT: u8 = 3;
    pub const DOWN: u8 = 4;

    /// `None` if the datagram is text, which never begins with an octet this small.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = datagram.split_first()?;
        let (number, payload) = rest.split_first_chunk::<4>()?;
        (kind <= Self::DOWN).then(|| Self { kind, number: u32::from_be_bytes(*number), payload })
    }

    pub fn write(kind: u8, number: u32, payload: &[u8]) -> Vec<u8> {
        [&[kind], &number.to_be_bytes()[..], payload].concat()
    }

    /// Offset of the contents in the whole exchange.
    pub fn at(&self) -> usize {
        usize::try_from(self.number).unwrap_or(usize::MAX / PIECE) * PIECE
    }
}
