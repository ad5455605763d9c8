//! Decides which uplinks run XDP, and in which mode.

use crate::config::XdpPolicy;
use crate::dataplane::attach::XdpWay;
use crate::dataplane::interfaces::Xdp;
use crate::node::{Interface, Interfaces};

/// The XDP mode that the policy requests for an uplink; `all` are the node's interfaces.
pub fn wish(policy: XdpPolicy, i: &Interface, all: &Interfaces) -> Option<Xdp> {
    let way = |way, is_optional| Some(Xdp { way, is_optional });
    match policy {
        _ if !i.is_ethernet => None,
        // An empty kind: a driver, not a virtual link.
        XdpPolicy::Auto if i.kind.is_empty() => way(XdpWay::Native, true),
        // A VLAN has no driver: its frames come by the interface below.
        XdpPolicy::Native if i.kind != "vlan" => way(XdpWay::Native, false),
        // In generic mode the program cannot see or remove a tag that the card took out of the frame. A redirected
        // frame would keep the tag, whatever its new network. The VLANs' own interfaces have no such tags.
        XdpPolicy::Generic if !all.carries_vlans(i.index) => way(XdpWay::Generic, false),
        XdpPolicy::Auto | XdpPolicy::Native | XdpPolicy::Generic | XdpPolicy::Off => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, kind: &str) -> Interface {
        Interface { index, kind: kind.to_owned(), is_ethernet: true, ..Interface::default() }
    }

    /// Results of each policy for a card, a card with a VLAN, that VLAN, a bond, and a tunnel.
    #[test]
    fn xdp_stands_where_it_sees_what_it_sends() {
        let list = vec![
            interface(1, ""),
            interface(2, ""),
            Interface { vlan_over: Some(2), ..interface(3, "vlan") },
            interface(4, "bond"),
            Interface { is_ethernet: false, ..interface(5, "ipip") },
        ];
        let all = Interfaces { list, ..Interfaces::default() };
        let ways =
            |policy| all.list.iter().map(|i| wish(policy, i, &all).map(|xdp| xdp.way)).collect::<Vec<_>>();
        let (native, generic) = (Some(XdpWay::Native), Some(XdpWay::Generic));
        assert_eq!(ways(XdpPolicy::Auto), [native, native, None, None, None]);
        assert_eq!(ways(XdpPolicy::Native), [native, native, None, native, None]);
        assert_eq!(ways(XdpPolicy::Generic), [generic, None, generic, generic, None]);
        assert_eq!(ways(XdpPolicy::Off), [None; 5]);
    }
}
