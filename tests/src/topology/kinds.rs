//! Kinds of network devices that this kernel can make.

use anyhow::Result;

use crate::netns::Netns;
use crate::run_name::RunName;

/// Why this kernel cannot make such a device; `None` if it can.
pub fn missing_kind(kind: &str) -> Result<Option<String>> {
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
