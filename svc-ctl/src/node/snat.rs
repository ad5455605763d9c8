//! The SNAT address for packets that are masqueraded out of an interface (SEM-087).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::roles::{Assignment, InterfaceRole};
use super::{Interface, Interfaces};

/// SNAT addresses of both families; unspecified if the node has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sources {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// SNAT addresses for an interface: its own first address of the family, else its bridge's, else an uplink's, else one on
/// the loopback interface or a dummy.
pub fn sources(i: &Interface, interfaces: &Interfaces, roles: &BTreeMap<u32, Assignment>) -> Sources {
    let bridge = i.master.and_then(|m| interfaces.list.iter().find(|b| b.index == m));
    let with_role = |role| {
        let has_role = move |u: &&Interface| roles.get(&u.index).is_some_and(|a| a.role == role);
        interfaces.list.iter().filter(|u| !u.is_of_another_proxy()).filter(has_role).flat_map(|u| &u.addrs)
    };
    let candidates: Vec<IpAddr> = i
        .addrs
        .iter()
        .chain(bridge.iter().flat_map(|b| &b.addrs))
        .chain(with_role(InterfaceRole::Uplink))
        .chain(with_role(InterfaceRole::None))
        .copied()
        .collect();
    let v4 = candidates.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
    let v6 = candidates.iter().find_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None });
    Sources { v4: v4.unwrap_or(Ipv4Addr::UNSPECIFIED), v6: v6.unwrap_or(Ipv6Addr::UNSPECIFIED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_without_address_uses_its_bridge_then_an_uplink() {
        let addr = |s: &str| s.parse::<IpAddr>().unwrap();
        let bridge = Interface { index: 2, addrs: vec![addr("10.1.0.1")], ..Interface::default() };
        let port = Interface { index: 3, master: Some(2), ..Interface::default() };
        let addrs = vec![addr("192.0.2.1"), addr("2001:db8::1")];
        let uplink = Interface { index: 4, addrs, ..Interface::default() };
        let role = Assignment { role: InterfaceRole::Uplink, reason: String::new(), doubt: None };
        let interfaces = Interfaces { list: vec![bridge, port.clone(), uplink], ..Interfaces::default() };
        let s = sources(&port, &interfaces, &[(4, role)].into());
        assert_eq!((s.v4.to_string(), s.v6.to_string()), ("10.1.0.1".to_owned(), "2001:db8::1".to_owned()));
    }

    #[test]
    fn a_node_whose_address_is_on_the_loopback_interface_masquerades_with_it() {
        let addr = |s: &str| vec![s.parse::<IpAddr>().unwrap()];
        let interface = |index, name: &str, addrs| Interface {
            index,
            name: name.to_owned(),
            addrs,
            ..Interface::default()
        };
        let left = interface(1, "kube-ipvs0", addr("10.96.0.1"));
        let eth0 = interface(3, "eth0", Vec::new());
        let list = vec![left, interface(2, "lo", addr("192.0.2.1")), eth0.clone()];
        let role = |role| Assignment { role, reason: String::new(), doubt: None };
        let roles = [
            (1, role(InterfaceRole::None)),
            (2, role(InterfaceRole::None)),
            (3, role(InterfaceRole::Uplink)),
        ];
        let s = sources(&eth0, &Interfaces { list, ..Interfaces::default() }, &roles.into());
        assert_eq!(s.v4, Ipv4Addr::new(192, 0, 2, 1));
    }
}
