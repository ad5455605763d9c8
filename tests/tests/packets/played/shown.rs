//! A case's sections as expectations: rendered tables, and lists of backends that datagram flows may keep.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::client::Destination;
use crate::ask::PacketOutcome;

/// A section of tables.
#[derive(Debug, Default)]
pub struct TablesSection {
    /// By number: its address, and whether it is on another node.
    backends: BTreeMap<String, (SocketAddr, bool)>,
    /// By place: numbers of backends.
    extents: BTreeMap<String, Vec<String>>,
    /// By address: the rest of the line.
    frontends: BTreeMap<String, Vec<String>>,
    addresses: BTreeMap<IpAddr, BTreeSet<String>>,
    prefixes: Vec<(String, IpNet)>,
}

impl TablesSection {
    pub fn read(text: &str) -> Result<Self> {
        let mut shown = Self::default();
        for line in text.lines() {
            shown.read_line(line).with_context(|| format!("not understood: {line}"))?;
        }
        Ok(shown)
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let (kind, words) = words.split_first()?;
        let (name, rest) = words.split_first()?;
        match (kind.as_str(), rest) {
            ("backend", [at, place]) => {
                self.backends.insert(name.clone(), (at.parse().ok()?, place == "remote"));
            }
            ("extent", [arrow, numbers @ ..]) if arrow == "->" => {
                self.extents.insert(name.clone(), numbers.to_vec());
            }
            // The frontend's backends in another order.
            ("maglev", _) => {}
            ("frontend", rest) => drop(self.frontends.insert(name.clone(), rest.to_vec())),
            ("address", [flags]) => {
                let flags = flags.split(',').map(str::to_owned).collect();
                self.addresses.insert(name.parse().ok()?, flags);
            }
            ("prefix", [net]) => self.prefixes.push((name.clone(), net.parse().ok()?)),
            _ => return None,
        }
        Some(())
    }

    /// All destinations of frontends. A NodePort has each address of the node, also those where it is not served.
    pub fn destinations(&self) -> BTreeSet<Destination> {
        self.frontends.keys().flat_map(|name| self.doors_of(name).unwrap_or_default()).collect()
    }

    fn doors_of(&self, name: &str) -> Option<Vec<Destination>> {
        let known = |word: &str| ["TCP", "UDP", "SCTP"].into_iter().find(|proto| *proto == word);
        let Some(node_port) = name.strip_prefix("node-port:") else {
            let (to, proto) = name.rsplit_once('/')?;
            return Some(vec![Destination { to: to.parse().ok()?, proto: known(proto)? }]);
        };
        let [port, proto, family] = node_port.split('/').collect::<Vec<_>>()[..] else { return None };
        let (port, proto) = (port.parse().ok()?, known(proto)?);
        let is_dialled = |addr: &IpAddr| {
            self.is(*addr, "local") && !addr.is_loopback() && addr.is_ipv4() == (family == "IPv4")
        };
        let addrs = self.addresses.keys().filter(|addr| is_dialled(addr));
        Some(addrs.map(|addr| Destination { to: (*addr, port).into(), proto }).collect())
    }

    /// All possible results for a client's first packet.
    pub fn outcomes(
        &self,
        destination: Destination,
        client: IpAddr,
        is_pod: bool,
    ) -> BTreeSet<PacketOutcome> {
        let Some(words) = self.frontend(destination) else {
            return [self.without_frontend(destination.to.ip(), is_pod)].into();
        };
        let word = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).unwrap_or("-");
        let is = |flag: &str| words.iter().flat_map(|word| word.split(',')).any(|word| word == flag);
        if is("source-ranges") && !self.lists(&format!("sources-of-{}", word("service=")), client) {
            return [PacketOutcome::Dropped].into();
        }
        let place = if is("local-only") && !is_pod { word("local=") } else { word("cluster=") };
        let Some(numbers) = self.extents.get(place) else {
            return [if is("usable") { PacketOutcome::Dropped } else { PacketOutcome::Refused }].into();
        };
        let hides = is(if is_pod { "masquerade-pods" } else { "masquerade-others" });
        let backends = numbers.iter().filter_map(|number| self.backends.get(number));
        backends
            .map(|&(backend, is_remote)| PacketOutcome::Reaches {
                backend,
                is_masqueraded: hides && is_remote,
            })
            .collect()
    }

    /// Timeout of session affinity in seconds.
    pub fn affinity(&self, destination: Destination) -> Option<u32> {
        let words = self.frontend(destination)?.iter();
        words.filter_map(|word| word.strip_prefix("affinity=")?.strip_suffix('s')?.parse().ok()).next()
    }

    fn frontend(&self, destination: Destination) -> Option<&Vec<String>> {
        let [exact, node_port] = destination.names().map(|name| self.frontends.get(&name));
        exact.or(if self.is(destination.to.ip(), "node-port") { node_port } else { None })
    }

    fn without_frontend(&self, to: IpAddr, is_pod: bool) -> PacketOutcome {
        if self.is(to, "local") {
            PacketOutcome::Untouched
        } else if self.is(to, "cluster-ip") {
            PacketOutcome::Refused
        } else if self.lists("service-cidrs", to) || (!is_pod && self.is_unused_of_pool(to)) {
            PacketOutcome::Dropped
        } else {
            PacketOutcome::Untouched
        }
    }

    fn is_unused_of_pool(&self, addr: IpAddr) -> bool {
        self.lists("pools", addr) && !self.addresses.contains_key(&addr)
    }

    fn is(&self, addr: IpAddr, flag: &str) -> bool {
        self.addresses.get(&addr).is_some_and(|flags| flags.contains(flag))
    }

    fn lists(&self, list: &str, addr: IpAddr) -> bool {
        self.prefixes.iter().any(|(name, net)| name == list && net.contains(&addr))
    }
}

/// A section of backends that datagram flows may keep.
pub struct Serving(BTreeMap<String, BTreeSet<SocketAddr>>);

impl Serving {
    pub fn read(text: &str) -> Result<Self> {
        let line = |line: &str| {
            let (name, addrs) = line.split_once(' ').unwrap_or((line, ""));
            let addrs = addrs.split_whitespace().map(str::parse).collect::<Result<_, _>>();
            Ok((name.to_owned(), addrs.with_context(|| format!("not understood: {line}"))?))
        };
        Ok(Self(text.lines().map(line).collect::<Result<_>>()?))
    }

    /// A flow to this destination may keep its backend.
    pub fn lets_stay(&self, destination: Destination, backend: SocketAddr) -> bool {
        let [exact, node_port] = destination.names().map(|name| self.0.get(&name));
        exact.or(node_port).is_none_or(|set| set.contains(&backend))
    }
}
