//! The world of one variant's cells: a client pod, and a Service per location of a backend.

use anyhow::{Context, Result};

use super::cell::BackendPlace;
use super::variant::Variant;
use crate::manifests::{Backend, SERVER_PORT, Service};
use crate::topology::{Addrs, service};
use crate::world::World;

/// A world with the matrix's pods and Services.
#[derive(Debug)]
pub struct MatrixWorld {
    pub world: World,
    variant: Variant,
    services: Vec<Service>,
}

impl MatrixWorld {
    pub fn new(variant: Variant) -> Result<Self> {
        let mut world = World::new(variant.name, variant.options)?;
        for (node, pod) in [(1, "pod"), (1, "near"), (2, "far")] {
            world.topology.node_mut(node).add_pod(pod)?.host.agent.serve(SERVER_PORT)?;
        }
        for node in &world.topology.nodes {
            node.host.agent.serve(SERVER_PORT)?;
        }
        let mut matrix = Self { world, variant, services: Vec::new() };
        for (n, place) in (0..).zip(BackendPlace::ALL) {
            let service = matrix.service_with(place, n)?;
            matrix.world.folder.write_service(&service)?;
            matrix.services.push(service);
        }
        matrix.world.start(variant.flags)?;
        Ok(matrix)
    }

    fn service_with(&self, place: BackendPlace, n: u8) -> Result<Service> {
        let name = backend_name(place);
        let host = self.world.topology.host(name)?;
        let node =
            if matches!(place, BackendPlace::OtherNode | BackendPlace::HostOfOtherNode) { 2 } else { 1 };
        let backend = Backend { name: name.into(), addrs: host.addrs, node: format!("node{node}") };
        Ok(Service {
            name: format!("at-{name}"),
            cluster: service(10 + n),
            node_port: 30080 + u16::from(n),
            external: None,
            affinity: None,
            backends: vec![backend],
        })
    }

    pub(super) fn service(&self, place: BackendPlace) -> &Service {
        let found =
            self.services.iter().find(|service| service.name == format!("at-{}", backend_name(place)));
        found.unwrap_or_else(|| unreachable!("new() makes a Service for every place"))
    }

    pub(super) fn backend_name(&self, place: BackendPlace) -> &'static str {
        backend_name(place)
    }

    pub(super) fn backend_addrs(&self, place: BackendPlace) -> Addrs {
        let backend = self.service(place).backends.first();
        backend.map_or_else(
            || unreachable!("every Service of the matrix has a backend"),
            |backend| backend.addrs,
        )
    }

    pub(super) fn pod_sockets(&self) -> bool {
        self.variant.flags.pod_sockets
    }

    /// The error with the state of the world.
    pub fn explain(&self, error: &anyhow::Error) -> String {
        format!("{}: {error:#}\n{}", self.variant.name, self.world.diagnosis())
    }

    /// Fails if any receiver found a wrong checksum, which a retransmission may have hidden.
    pub fn no_wrong_checksums(&self) -> Result<()> {
        let counted = self.world.checksum_errors()?;
        let wrong = counted.lines().find(|line| line.contains("CsumErrors"));
        wrong.map_or(Ok(()), |line| Err(anyhow::anyhow!("{line}"))).context("wrong checksums arrived")
    }
}

fn backend_name(place: BackendPlace) -> &'static str {
    match place {
        BackendPlace::SameNode => "near",
        BackendPlace::OtherNode => "far",
        BackendPlace::HostOfSameNode => "node1",
        BackendPlace::HostOfOtherNode => "node2",
        BackendPlace::Itself => "pod",
    }
}
