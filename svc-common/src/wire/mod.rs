//! Reads the bytes of a packet as typed values, and writes them.

pub mod checksum;
pub mod crc32c;
pub mod cursor;
pub mod icmp;
pub mod ip;
pub mod parse;
pub mod rewrite;
