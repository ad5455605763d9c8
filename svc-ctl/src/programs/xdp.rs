//! Decides which uplinks run XDP, and in which mode.

use crate::config::XdpPolicy;
use crate::dataplane::hooks::XdpMode;
use crate::dataplane::interfaces::XdpRequest;
use crate::node::{Interface, Interfaces};

/// The XDP mode that the policy requests for an uplink; `all` are the node's interfaces.
pub fn requested_mode(policy: XdpPolicy, i: &Interface, all: &Interfaces) -> Option<XdpRequest> {
    let run = |mode, is_optional| Some(XdpRequest { mode, is_optional });
    match policy {
        _ if !i.is_ethernet => None,
        // An empty kind: a driver, not a virtual link.
        XdpPolicy::Auto if i.kind.is_empty() => run(XdpMode::Native, true),
        // A VLAN has no driver: its frames come by the interface below.
        XdpPolicy::Native if i.kind != "vlan" => run(XdpMode::Native, false),
        // In generic mode the program cannot see or remove a tag that the card took out of the frame. A redirected
        // frame would keep the tag, whatever its new network. The VLANs' own interfaces have no such tags.
        XdpPolicy::Generic if !all.carries_vlans(i.index) => run(XdpMode::Generic, false),
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
    fn xdp_runs_only_where_it_sees_the_tags_of_its_frames() {
        let list = vec![
            interface(1, ""),
            interface(2, ""),
            Interface { vlan_over: Some(2), ..interface(3, "vlan") },
            interface(4, "bond"),
            Interface { is_ethernet: false, ..interface(5, "ipip") },
        ];
        let all = Interfaces { list, ..Interfaces::default() };
        let modes = |policy| {
            all.list.iter().map(|i| requested_mode(policy, i, &all).map(|xdp| xdp.mode)).collect::<Vec<_>>()
        };
        let (native, generic) = (Some(XdpMode::Native), Some(XdpMode::Generic));
        assert_eq!(modes(XdpPolicy::Auto), [native, native, None, None, None]);
        assert_eq!(modes(XdpPolicy::Native), [native, native, None, native, None]);
        assert_eq!(modes(XdpPolicy::Generic), [generic, None, generic, generic, None]);
        assert_eq!(modes(XdpPolicy::Off), [None; 5]);
    }
}
