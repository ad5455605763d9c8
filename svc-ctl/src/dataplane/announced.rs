//! The pinned table of load-balancer addresses that the programs answer for, and the link-layer addresses of other nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context as _;
use aya::maps::{HashMap, MapData, MapError};
use svc_common::abi::{Announced, AnnouncedKey, AnnouncedState, NodeMac, names};
use svc_common::addr::{AddrV4, AddrV6};

use super::maps::open;
use super::pins::Pins;

/// An address on an interface, by its index.
pub type Place = (IpAddr, u32);

/// Both tables.
pub struct AnnouncedTable {
    entries: HashMap<MapData, AnnouncedKey, Announced>,
    macs: HashMap<MapData, NodeMac, u32>,
}

impl AnnouncedTable {
    pub fn open(pins: &Pins) -> anyhow::Result<Self> {
        Ok(Self { entries: open(pins, names::ANNOUNCED)?, macs: open(pins, names::NODE_MACS)? })
    }

    /// Answers for an address from now on, with the interface's link-layer address.
    pub fn arm(&mut self, place: Place, mac: [u8; 6]) -> anyhow::Result<()> {
        let entry = Announced { mac, state: AnnouncedState::ARMED, _pad: 0 };
        self.entries.insert(key(place), entry, 0).with_context(|| format!("answering for {}", place.0))
    }

    /// Answers no longer.
    pub fn disarm(&mut self, place: Place) -> anyhow::Result<()> {
        match self.entries.remove(&key(place)) {
            Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("falling silent for {}", place.0)),
        }
    }

    /// The place is answered for; false if it has yielded to another node or is not in the table.
    pub fn is_armed(&self, place: Place) -> bool {
        self.entries.get(&key(place), 0).is_ok_and(|entry| entry.state == AnnouncedState::ARMED)
    }

    /// All places in the table, answered for or not.
    pub fn places(&self) -> Vec<Place> {
        self.entries.keys().filter_map(Result::ok).map(place).collect()
    }

    /// Takes over the MACs of the other nodes. No other host makes this node yield.
    pub fn set_nodes(&mut self, macs: &BTreeSet<[u8; 6]>) -> anyhow::Result<()> {
        let known: BTreeSet<[u8; 6]> =
            self.macs.keys().filter_map(Result::ok).map(|mac| mac.octets).collect();
        let mac = |octets: &[u8; 6]| NodeMac { octets: *octets, _pad: [0; 2] };
        for old in known.difference(macs) {
            self.macs.remove(&mac(old)).context("forgetting a node")?;
        }
        for new in macs.difference(&known) {
            self.macs.insert(mac(new), 1, 0).context("learning a node")?;
        }
        Ok(())
    }
}

fn key((address, ifindex): Place) -> AnnouncedKey {
    match address {
        IpAddr::V4(ip) => AnnouncedKey::v4(AddrV4::new(ip.octets()), ifindex),
        IpAddr::V6(ip) => AnnouncedKey::v6(AddrV6::new(ip.octets()), ifindex),
    }
}

fn place(key: AnnouncedKey) -> Place {
    (IpAddr::from(key.addr.octets()).to_canonical(), key.ifindex)
}
