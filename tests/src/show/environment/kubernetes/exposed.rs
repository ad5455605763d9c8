//! Addresses of a Service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::topology::{Addrs, Family};

/// A dual stack NodePort Service of one port.
pub(super) struct Exposed {
    cluster: Addrs,
    port: u16,
    node_port: u16,
}

impl Exposed {
    /// Reads a Service of the API server.
    pub(super) fn read(service: &str) -> Result<Self> {
        let service: Value = serde_json::from_str(service).context("parse a Service")?;
        let spec = &service["spec"];
        let (v4, v6) = <(Ipv4Addr, Ipv6Addr)>::deserialize(&spec["clusterIPs"]).context("its clusterIPs")?;
        let port =
            |name: &str| u16::deserialize(&spec["ports"][0][name]).with_context(|| format!("its {name}"));
        Ok(Self { cluster: Addrs { v4, v6 }, port: port("port")?, node_port: port("nodePort")? })
    }

    /// Its ClusterIP.
    pub(super) fn inside(&self, family: Family) -> SocketAddr {
        (self.cluster.of(family), self.port).into()
    }

    /// Its NodePort at a node.
    pub(super) fn at(&self, node: IpAddr) -> SocketAddr {
        (node, self.node_port).into()
    }
}
