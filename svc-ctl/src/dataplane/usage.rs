//! How full the tables are that the kernel's programs fill, and that of interfaces.

use std::os::fd::AsFd as _;

use anyhow::Context as _;
use aya::maps::MapData;
use svc_common::abi::names;

use super::pins::Pins;
use super::sys;

const TABLES: [(&str, &str); 7] = [
    (names::FLOWS4, "flows (IPv4)"),
    (names::FLOWS6, "flows (IPv6)"),
    (names::SOCKETS4, "sockets (IPv4)"),
    (names::SOCKETS6, "sockets (IPv6)"),
    (names::AFFINITY4, "affinity (IPv4)"),
    (names::AFFINITY6, "affinity (IPv6)"),
    (names::IFACES, "interfaces"),
];

/// How full a table is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    pub table: &'static str,
    pub used: u64,
    pub capacity: u64,
}

/// Counts what is in the pinned maps.
pub fn usage(pins: &Pins) -> anyhow::Result<Vec<Usage>> {
    TABLES
        .into_iter()
        .map(|(name, table)| {
            let path = pins.map(name);
            let subject = || format!("counting {}", path.display());
            let map = MapData::from_pin(&path).with_context(subject)?;
            let info = map.info().with_context(subject)?;
            let mut used = 0;
            let sizes = (info.key_size() as usize, info.value_size() as usize);
            sys::each_entry(map.fd().as_fd(), sizes, |_, _| used += 1).with_context(subject)?;
            Ok(Usage { table, used, capacity: u64::from(info.max_entries()) })
        })
        .collect()
}
