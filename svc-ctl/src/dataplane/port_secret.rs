//! The node's secret, which keys the hash for source ports of the masquerade.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;

use anyhow::Context as _;

use super::sys;

/// The kernel's source of random octets.
const RANDOM: &str = "/dev/urandom";

/// Fills a new map with random octets. It is pinned, so clients keep their source ports over a restart.
pub fn fill(map: BorrowedFd<'_>) -> anyhow::Result<()> {
    let mut secret = [0; size_of::<u64>()];
    File::open(RANDOM).and_then(|mut file| file.read_exact(&mut secret)).context(RANDOM)?;
    sys::update_entry(map, &0_u32.to_ne_bytes(), &secret).context("writing PORT_SECRET")
}
