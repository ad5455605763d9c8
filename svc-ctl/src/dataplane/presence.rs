//! The daemon's side of the presence filter: marks the places of entries before the entries are written.

use std::io;
use std::net::IpAddr;

use svc_common::abi::*;
use svc_common::addr::{Port, Proto};
use svc_common::datapath::presence::{Marks, Place, of_record};
use svc_common::family::{Family, V4, V6};

use super::encode;
use super::mmap::MappedArray;
use crate::plan::tables::{Backend, Frontend, MapOp, Tables};

/// The filter as the daemon writes it. Programs add marks, too.
pub struct Presence(MappedArray<u64>);

impl Presence {
    pub(super) const fn new(words: MappedArray<u64>) -> Self {
        Self(words)
    }

    pub(super) fn mark(&mut self, place: Place, marks: Marks) -> io::Result<()> {
        self.0.set_bits(place.word, place.marked(0, marks))
    }

    /// Marks the place of an op's entry. Must be called before the op.
    pub fn mark_op(&mut self, op: &MapOp) -> io::Result<()> {
        match op {
            MapOp::PutFrontend(frontend, _) => self.mark_frontend(frontend),
            MapOp::PutAddress(addr, flags) => self.mark_address(*addr, *flags),
            MapOp::PutBackend(_, backend) => self.mark_backend(backend),
            _ => Ok(()),
        }
    }

    /// Marks all entries of tables.
    pub fn mark_all(&mut self, tables: &Tables) -> io::Result<()> {
        tables.backends.iter().try_for_each(|(_, backend)| self.mark_backend(backend))?;
        tables.frontends.keys().try_for_each(|frontend| self.mark_frontend(frontend))?;
        tables.addresses.iter().try_for_each(|(addr, flags)| self.mark_address(*addr, *flags))
    }

    fn mark_frontend(&mut self, frontend: &Frontend) -> io::Result<()> {
        self.mark(place(frontend.addr, frontend.port, frontend.proto), Marks::FRONTEND)
    }

    pub(super) fn mark_backend(&mut self, backend: &Backend) -> io::Result<()> {
        // Backends have no protocol.
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
            self.mark(place(backend.addr, backend.port, proto), Marks::BACKEND)?;
        }
        if backend.locality == Locality::HOST {
            // Its server may answer a datagram from any address of the node.
            self.mark(Place::of_port(Port::new(backend.port), Proto::UDP), Marks::BACKEND)?;
        }
        Ok(())
    }

    /// Every port of a ClusterIP is a Service's, and every port of an external address that is not the node's: unknown
    /// ones may be dropped (`--unknown-external-ports`).
    pub(super) fn mark_address(&mut self, addr: IpAddr, flags: AddressFlags) -> io::Result<()> {
        let is_external = flags.has(AddressFlags::EXTERNAL_IP) && !flags.has(AddressFlags::LOCAL);
        if !flags.has(AddressFlags::CLUSTER_IP) && !is_external {
            return Ok(());
        }
        let place = match addr {
            IpAddr::V4(a) => Place::of_address::<V4>(encode::v4(a)),
            IpAddr::V6(a) => Place::of_address::<V6>(encode::v6(a)),
        };
        self.mark(place, Marks::FRONTEND)
    }

    /// The filter has no mark: it was made just now.
    pub(super) fn is_empty(&mut self) -> io::Result<bool> {
        for index in 0..Place::WORDS {
            if self.0.get(index)? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Marks the packets of a record. For tests that write records themselves.
    pub fn mark_flow<F: Family>(
        &mut self,
        key: &FlowKey<F::Addr>,
        record: &FlowRecord<F::Addr>,
    ) -> io::Result<()> {
        let (place, marks) = of_record::<F>(key, record);
        self.mark(place, marks)
    }

    /// Writes the same word everywhere: with all bits set no packet is filtered. For tests.
    pub fn fill(&mut self, word: u64) -> io::Result<()> {
        (0..Place::WORDS).try_for_each(|index| self.0.set(index, &word))
    }
}

pub(super) fn place(addr: IpAddr, port: u16, proto: Proto) -> Place {
    let port = Port::new(port);
    match addr {
        addr if addr.is_unspecified() => Place::of_port(port, proto),
        IpAddr::V4(a) => Place::of::<V4>(encode::v4(a), port, proto),
        IpAddr::V6(a) => Place::of::<V6>(encode::v6(a), port, proto),
    }
}
