//! Kinds of network devices that this kernel can make, and ESP.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::netns::Netns;
use crate::run_name::RunName;

/// IPsec's encryption (RFC 4303).
pub const ESP: &str = "esp";

/// The command of `ip` that adds a security association in transport mode.
pub fn security_association(from: Ipv4Addr, to: Ipv4Addr) -> String {
    const KEY: &str = "0x0102030405060708090a0b0c0d0e0f1011121314";
    format!(
        "xfrm state add src {from} dst {to} proto esp spi 7 mode transport aead rfc4106(gcm(aes)) {KEY} 128"
    )
}

/// Why this kernel cannot make such a device, or with "esp" encrypt; `None` if it can. Each kind is tried once.
pub fn missing_kind(kind: &'static str) -> Result<Option<String>> {
    static TRIED: Mutex<BTreeMap<&str, Option<String>>> = Mutex::new(BTreeMap::new());
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = tried.get(kind) {
        return Ok(known.clone());
    }
    let missing = try_kind(kind)?;
    tried.insert(kind, missing.clone());
    Ok(missing)
}

fn try_kind(kind: &str) -> Result<Option<String>> {
    let netns = Netns::new(&RunName::new("kinds").host(kind))?;
    if kind == ESP {
        let sa = security_association("192.0.2.1".parse()?, "192.0.2.2".parse()?);
        return Ok(netns.ip(&sa).err().map(|error| format!("this kernel has no ESP: {error:#}")));
    }
    netns.ip("link add lower type veth peer name other")?;
    let make = match kind {
        "vlan" => "link lower name tried type vlan id 1",
        "ipvlan" => "link lower name tried type ipvlan mode l2",
        "macvlan" => "link lower name tried type macvlan mode bridge",
        "vrf" => "tried type vrf table 10",
        "geneve" => "tried type geneve id 1 remote 192.0.2.1",
        "ip6tnl" => "tried type ip6tnl mode ip6ip6 local 2001:db8::1 remote 2001:db8::2",
        "ipip" | "gre" => &format!("tried type {kind} local 192.0.2.1 remote 192.0.2.2"),
        _ => &format!("tried type {kind}"),
    };
    match netns.ip(&format!("link add {make}")) {
        Err(error) if format!("{error:#}").contains("Unknown device type") => {
            Ok(Some(format!("this kernel has no devices of the kind {kind}")))
        }
        tried => tried.map(|()| None),
    }
}
