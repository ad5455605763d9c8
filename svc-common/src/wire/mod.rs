//! Bytes of a packet to typed values.

pub mod checksum;
pub mod crc32c;
pub mod cursor;
pub mod icmp;
pub mod ip;
pub mod parse;
pub mod rewrite;
