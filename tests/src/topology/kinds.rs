//! Kinds of network devices that this kernel can make.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::netns::Netns;
use crate::run_name::RunName;

/// Why this kernel cannot make such a device; `None` if it can. Each kind is tried once.
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
