//! Tables as text and back: one fact a line, in a stable order, so that a difference of texts is an explanation.

use std::net::{IpAddr, SocketAddr};

use svc_common::abi::{
    AddressFlags, BackendId, Extent, FrontendFlags, Locality, PrefixList, Scope, ServicePortId,
};

use super::tables::{Backend, Frontend, FrontendEntry, Prefix, Tables};
use crate::model::name::{IpFamily, proto_from_label, proto_label};

const FRONTEND_FLAGS: [(FrontendFlags, &str); 8] = [
    (FrontendFlags::EXTERNAL, "external"),
    (FrontendFlags::LOCAL_ONLY, "local-only"),
    (FrontendFlags::USABLE_ELSEWHERE, "usable"),
    (FrontendFlags::MASQUERADE_PODS, "masquerade-pods"),
    (FrontendFlags::MASQUERADE_OTHERS, "masquerade-others"),
    (FrontendFlags::MASQUERADE_TO_LOCAL, "masquerade-to-local"),
    (FrontendFlags::SOURCE_RANGES, "source-ranges"),
    (FrontendFlags::NODE_IN_RANGES, "node-in-ranges"),
];
const LOCALITIES: [(Locality, &str); 3] =
    [(Locality::REMOTE, "remote"), (Locality::LOCAL, "local"), (Locality::HOST, "host")];
const ADDRESS_FLAGS: [(u32, &str); 5] = [
    (AddressFlags::LOCAL.0, "local"),
    (AddressFlags::NODE_PORT.0, "node-port"),
    (AddressFlags::CLUSTER_IP.0, "cluster-ip"),
    (AddressFlags::EXTERNAL_IP.0, "external-ip"),
    (AddressFlags::NODE_PORT_OF_HOST.0, "node-port-of-host"),
];
const SERVICE_CIDRS: &str = "service-cidrs";
const POOLS: &str = "pools";
const LOCAL_PODS: &str = "local-pods";

/// All tables.
pub fn render(tables: &Tables) -> String {
    let mut text = String::new();
    for (id, b) in tables.backends.iter() {
        let line = format!(
            "backend   b{} {} {}\n",
            id.0,
            SocketAddr::new(b.addr, b.port),
            locality_text(b.locality)
        );
        text.push_str(&line);
    }
    for (extent, set) in &tables.extents {
        let ids: Vec<String> = set.iter().map(|id| format!("b{}", id.0)).collect();
        text.push_str(&format!("extent    {} -> {}\n", extent_text(*extent), ids.join(" ")));
    }
    for (pages, digest) in &tables.maglevs {
        text.push_str(&format!("maglev    {} #{digest:016x}\n", extent_text(*pages)));
    }
    for (frontend, entry) in &tables.frontends {
        text.push_str(&format!("frontend  {} {}\n", frontend_text(frontend), entry_text(entry)));
    }
    for (addr, flags) in &tables.addresses {
        let bits = ADDRESS_FLAGS.map(|(bit, word)| (flags.0 & bit != 0, word));
        text.push_str(&format!("address   {addr} {}\n", words(&bits)));
    }
    for Prefix { list, net } in &tables.prefixes {
        text.push_str(&format!("prefix    {} {net}\n", list_text(*list)));
    }
    text
}

/// `sources-of-3`, `service-cidrs`, `pools`, `local-pods`.
fn list_text(list: PrefixList) -> String {
    match list {
        PrefixList::SERVICE_CIDRS => SERVICE_CIDRS.to_owned(),
        PrefixList::POOLS => POOLS.to_owned(),
        PrefixList::LOCAL_PODS => LOCAL_PODS.to_owned(),
        PrefixList(service) => format!("sources-of-{service}"),
    }
}

fn parse_list(text: &str) -> Option<PrefixList> {
    match text {
        SERVICE_CIDRS => Some(PrefixList::SERVICE_CIDRS),
        POOLS => Some(PrefixList::POOLS),
        LOCAL_PODS => Some(PrefixList::LOCAL_PODS),
        _ => text.strip_prefix("sources-of-")?.parse().ok().map(PrefixList),
    }
}

/// `10.96.0.10:80/TCP`, or `node-port:30080/TCP/IPv4`.
pub fn frontend_text(frontend: &Frontend) -> String {
    let proto = proto_label(frontend.proto);
    if frontend.scope == Scope::NODE_PORT {
        return format!("node-port:{}/{proto}/{}", frontend.port, IpFamily::of(frontend.addr).label());
    }
    format!("{}/{proto}", SocketAddr::new(frontend.addr, frontend.port))
}

/// `remote`, `local`, `host`.
pub fn locality_text(locality: Locality) -> &'static str {
    LOCALITIES.iter().find(|(l, _)| *l == locality).map_or("unknown", |(_, word)| word)
}

fn entry_text(entry: &FrontendEntry) -> String {
    let flags = FRONTEND_FLAGS.map(|(bit, word)| (entry.flags.has(bit), word));
    let (cluster, local) = (extent_text(entry.cluster), extent_text(entry.local));
    let maglev = match entry.maglev.count {
        0 => String::new(),
        _ => format!(" maglev={}", extent_text(entry.maglev)),
    };
    let affinity = if entry.affinity == 0 { String::new() } else { format!(" affinity={}s", entry.affinity) };
    format!("service={} cluster={cluster} local={local} {}{maglev}{affinity}", entry.service.0, words(&flags))
}

fn extent_text(extent: Extent) -> String {
    match extent.count {
        0 => "-".to_owned(),
        count => format!("{}+{count}", extent.first),
    }
}

fn words(bits: &[(bool, &str)]) -> String {
    let set: Vec<&str> = bits.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    if set.is_empty() { "-".to_owned() } else { set.join(",") }
}

/// Parses the output of `render`. The error names the line.
pub fn parse(text: &str) -> Result<Tables, String> {
    let mut tables = Tables::default();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        parse_line(line, &mut tables).ok_or_else(|| format!("line {}: not understood: {line}", n + 1))?;
    }
    Ok(tables)
}

fn parse_line(line: &str, tables: &mut Tables) -> Option<()> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    match parts.as_slice() {
        ["backend", id, target, locality] => {
            let target: SocketAddr = target.parse().ok()?;
            let locality = LOCALITIES.iter().find(|(_, word)| word == locality)?.0;
            let backend = Backend { addr: target.ip(), port: target.port(), locality };
            tables.backends.insert(parse_backend_id(id)?, backend);
        }
        ["extent", extent, "->", ids @ ..] => {
            let set = ids.iter().map(|id| parse_backend_id(id)).collect::<Option<Vec<_>>>()?;
            tables.extents.insert(parse_extent(extent)?, set.into());
        }
        ["maglev", pages, digest] => {
            let digest = u64::from_str_radix(digest.strip_prefix('#')?, 16).ok()?;
            tables.maglevs.insert(parse_extent(pages)?, digest);
        }
        ["prefix", list, net] => {
            tables.prefixes.insert(Prefix { list: parse_list(list)?, net: net.parse().ok()? });
        }
        ["frontend", frontend, service, cluster, local, flags, rest @ ..] => {
            let mut rest = rest.iter().copied().peekable();
            let maglev = rest.next_if(|word| word.starts_with("maglev="));
            let entry = FrontendEntry {
                service: ServicePortId(service.strip_prefix("service=")?.parse().ok()?),
                flags: FrontendFlags(parse_words(flags, &FRONTEND_FLAGS.map(|(f, word)| (f.0, word)))?),
                cluster: parse_extent(cluster.strip_prefix("cluster=")?)?,
                local: parse_extent(local.strip_prefix("local=")?)?,
                maglev: match maglev {
                    Some(word) => parse_extent(word.strip_prefix("maglev=")?)?,
                    None => Extent::default(),
                },
                affinity: match rest.next() {
                    Some(word) => word.strip_prefix("affinity=")?.strip_suffix('s')?.parse().ok()?,
                    None => 0,
                },
            };
            if rest.next().is_some() {
                return None;
            }
            tables.frontends.insert(parse_frontend(frontend)?, entry);
        }
        ["address", addr, flags] => {
            let flags = AddressFlags(parse_words(flags, &ADDRESS_FLAGS)?);
            tables.addresses.insert(addr.parse::<IpAddr>().ok()?, flags);
        }
        _ => return None,
    }
    Some(())
}

fn parse_backend_id(text: &str) -> Option<BackendId> {
    text.strip_prefix('b')?.parse().ok().map(BackendId)
}

fn parse_extent(text: &str) -> Option<Extent> {
    if text == "-" {
        return Some(Extent::default());
    }
    let (first, count) = text.split_once('+')?;
    Some(Extent { first: first.parse().ok()?, count: count.parse().ok()? })
}

fn parse_words(text: &str, known: &[(u32, &str)]) -> Option<u32> {
    let mut parts = text.split(',').filter(|w| *w != "-");
    parts.try_fold(0, |bits, word| Some(bits | known.iter().find(|(_, w)| *w == word)?.0))
}

fn parse_frontend(text: &str) -> Option<Frontend> {
    if let Some(rest) = text.strip_prefix("node-port:") {
        let parts: Vec<&str> = rest.split('/').collect();
        let [port, proto, family] = parts.as_slice() else { return None };
        return Some(Frontend {
            addr: IpFamily::from_label(family)?.unspecified(),
            port: port.parse().ok()?,
            proto: proto_from_label(proto)?,
            scope: Scope::NODE_PORT,
        });
    }
    let (target, proto) = text.rsplit_once('/')?;
    let target: SocketAddr = target.parse().ok()?;
    let (addr, port) = (target.ip(), target.port());
    Some(Frontend { addr, port, proto: proto_from_label(proto)?, scope: Scope::ADDRESS })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
backend   b1 10.244.1.1:8080 local
backend   b2 10.244.2.1:8080 remote
backend   b7 [fd00::7]:8080 host
extent    0+2 -> b1 b2
extent    2+1 -> b7
maglev    3+1 #00000000000000ff
frontend  node-port:30080/TCP/IPv4 service=1 cluster=0+2 local=2+1 external,local-only,usable maglev=3+1
frontend  10.96.0.10:80/TCP service=1 cluster=0+2 local=- usable affinity=10800s
frontend  [fd00:96::10]:53/UDP service=2 cluster=- local=- -
address   10.96.0.10 cluster-ip
address   127.0.0.1 local
address   192.0.2.1 local,node-port
prefix    sources-of-1 203.0.113.0/24
prefix    pools 192.0.2.64/28
prefix    local-pods 10.244.0.0/16
prefix    service-cidrs fd00:96::/112
";

    #[test]
    fn text_and_tables_go_both_ways() {
        let tables = parse(TEXT).unwrap();
        assert_eq!(render(&tables), TEXT);
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for line in ["backend b1 10.0.0.1 local", "frontend x", "gibberish", "address   10.0.0.1 shiny"] {
            let text = format!("address   10.0.0.9 local\n{line}\n");
            assert_eq!(parse(&text), Err(format!("line 2: not understood: {line}")));
        }
    }
}
