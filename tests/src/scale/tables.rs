//! What the pinned maps serve, followed as the programs follow it: frontend, extent, backends.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use svc_common::abi::{BackendValue, Extent, FrontendKey, FrontendValue, MapAddr, Scope, names};
use svc_common::addr::{AddrV4, AddrV6, Port, Proto};

use super::population::{Frontend, PORT, Population};
use crate::bpf::PinnedMap;

/// The maps of one family.
#[derive(Debug)]
struct FamilyTables<A> {
    frontends: PinnedMap<FrontendKey<A>, FrontendValue>,
    backends: PinnedMap<u32, BackendValue<A>>,
}

/// The maps as they are pinned now; the daemon may put others in their place later.
#[derive(Debug)]
pub struct Tables {
    v4: FamilyTables<AddrV4>,
    v6: FamilyTables<AddrV6>,
    /// Ids of backends.
    selection: PinnedMap<u32, u32>,
}

impl Tables {
    /// `pins` is the daemon's pin directory.
    pub fn open(pins: &Path) -> Result<Self> {
        let dir = version_dir(pins)?;
        Ok(Self {
            v4: FamilyTables::open(&dir, names::FRONTENDS4, names::BACKENDS4)?,
            v6: FamilyTables::open(&dir, names::FRONTENDS6, names::BACKENDS6)?,
            selection: open(&dir, names::SELECTION)?,
        })
    }

    /// True if every frontend of a Service is there and leads to its endpoints, to all of them and to no others.
    pub fn serve(&self, population: &Population, service: u32) -> bool {
        let endpoints4 = population.endpoints4(service);
        let endpoints4: Vec<_> = endpoints4.iter().map(|address| AddrV4::new(address.octets())).collect();
        let endpoints6 = population.endpoints6(service);
        let endpoints6: Vec<_> = endpoints6.iter().map(|address| AddrV6::new(address.octets())).collect();
        population.frontends(service).iter().all(|frontend| match frontend.address {
            IpAddr::V4(address) => self.leads_to_all(&self.v4, v4(address), frontend, &endpoints4),
            IpAddr::V6(address) => self.leads_to_all(&self.v6, v6(address), frontend, &endpoints6),
        })
    }

    /// True if the ClusterIP of a Service leads to this endpoint.
    pub fn have_endpoint(&self, service: u32, endpoint: Ipv4Addr) -> bool {
        let key = key(v4(Population::cluster_ip(service)), PORT, Scope::ADDRESS);
        let Some(found) = self.v4.frontends.look_up(&key) else { return false };
        self.backends(&self.v4, found.cluster).any(|backend| backend == Some(v4(endpoint)))
    }

    fn leads_to_all<A: MapAddr + PartialEq>(
        &self,
        tables: &FamilyTables<A>,
        address: A,
        frontend: &Frontend,
        endpoints: &[A],
    ) -> bool
    where
        FrontendKey<A>: aya::Pod,
        BackendValue<A>: aya::Pod + Default,
    {
        let Some(found) = tables.frontends.look_up(&key(address, frontend.port, frontend.scope)) else {
            return false;
        };
        found.cluster.count as usize == endpoints.len()
            && self
                .backends(tables, found.cluster)
                .all(|backend| backend.is_some_and(|backend| endpoints.contains(&backend)))
    }

    /// The addresses behind an extent; none for what is not in the tables.
    fn backends<'a, A: MapAddr>(
        &'a self,
        tables: &'a FamilyTables<A>,
        extent: Extent,
    ) -> impl Iterator<Item = Option<A>> + 'a
    where
        BackendValue<A>: aya::Pod + Default,
    {
        let places = extent.first..extent.first.saturating_add(extent.count);
        places.map(|place| Some(tables.backends.look_up(&self.selection.look_up(&place)?)?.addr))
    }
}

impl<A: MapAddr> FamilyTables<A>
where
    BackendValue<A>: Default,
{
    fn open(dir: &Path, frontends: &str, backends: &str) -> Result<Self> {
        Ok(Self { frontends: open(dir, frontends)?, backends: open(dir, backends)? })
    }
}

fn open<K: aya::Pod, V: aya::Pod + Default>(dir: &Path, name: &str) -> Result<PinnedMap<K, V>> {
    PinnedMap::open(&dir.join(name)).with_context(|| format!("open {name} in {}", dir.display()))
}

/// `v4` or whatever version the daemon has: a binary of yesterday can be measured too.
pub fn version_dir(pins: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(pins).with_context(|| format!("read {}", pins.display()))?;
    let mut dirs = entries.flatten().map(|entry| entry.path());
    let found = dirs.find(|path| {
        let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix('v')?.parse::<u32>().ok());
        name.is_some() && path.join(names::FRONTENDS4).exists()
    });
    found.with_context(|| format!("no maps are pinned in {}", pins.display()))
}

fn key<A>(addr: A, port: u16, scope: Scope) -> FrontendKey<A> {
    FrontendKey { addr, port: Port::new(port), proto: Proto::TCP, scope }
}

fn v4(address: Ipv4Addr) -> AddrV4 {
    AddrV4::new(address.octets())
}

fn v6(address: Ipv6Addr) -> AddrV6 {
    AddrV6::new(address.octets())
}
