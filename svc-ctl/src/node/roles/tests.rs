//! The interfaces of nodes as CNIs make them, each with the expected role.

use super::InterfaceRole::{None as Nothing, Pod, PodBridge, Uplink};
use super::*;

fn interface(name: &str, kind: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        kind: kind.to_owned(),
        is_up: true,
        is_ethernet: true,
        is_bridge: kind == "bridge",
        ..Interface::default()
    }
}

fn card(name: &str) -> Interface {
    interface(name, "")
}

/// The node's end of a pair whose other end is in another network namespace.
fn pair(name: &str) -> Interface {
    Interface { has_peer_elsewhere: true, ..interface(name, "veth") }
}

fn routed(name: &str, pod: &str) -> Interface {
    Interface { routed_host: Some(pod.parse().unwrap()), ..pair(name) }
}

/// A port of the interface at that position of the list, counted from 1.
fn port(master: u32, i: Interface) -> Interface {
    Interface { master: Some(master), ..i }
}

fn addressed(subnet: &str, i: Interface) -> Interface {
    Interface { subnets: vec![subnet.parse().unwrap()], ..i }
}

fn by_default(i: Interface) -> Interface {
    Interface { has_default_route: true, ..i }
}

fn assigned(rules: &RoleRules, list: Vec<Interface>) -> Vec<Assignment> {
    let list = (1..).zip(list).map(|(index, i)| Interface { index, ..i }).collect();
    assign(&Interfaces { list, ..Interfaces::default() }, rules).into_values().collect()
}

/// A node's interfaces with the expected roles; none is in doubt.
fn node(what: &str, rows: Vec<(Interface, InterfaceRole)>) {
    let (list, roles): (Vec<Interface>, Vec<InterfaceRole>) = rows.into_iter().unzip();
    let assigned = assigned(&RoleRules::default(), list);
    assert_eq!(assigned.iter().map(|a| a.role).collect::<Vec<_>>(), roles, "{what}: {assigned:#?}");
    assert!(assigned.iter().all(|a| a.doubt.is_none()), "{what}: {assigned:#?}");
}

fn own(i: Interface) -> (Interface, InterfaceRole) {
    (by_default(addressed("192.0.2.1/24", i)), Uplink)
}

#[test]
fn a_pods_interface_is_recognised_on_every_common_cni() {
    node(
        "flannel",
        vec![
            own(card("eth0")),
            (interface("flannel.1", "vxlan"), Uplink),
            (addressed("10.244.1.1/24", interface("cni0", "bridge")), PodBridge),
            (port(3, pair("veth1a2b3c4d")), Pod),
            (port(3, pair("vethffee0011")), Pod),
        ],
    );
    node(
        "Calico",
        vec![
            own(card("ens3")),
            (Interface { is_ethernet: false, ..interface("tunl0", "ipip") }, Uplink),
            (routed("cali1a2b3c4d5e6", "10.244.1.10"), Pod),
            (pair("cali0000000000f"), Pod),
        ],
    );
    node(
        "AWS",
        vec![
            own(card("eth0")),
            (addressed("192.0.2.64/24", card("eth1")), Uplink),
            (routed("eni0123456789a", "192.0.2.77"), Pod),
            (interface("pod-id-link0", "dummy"), Nothing),
        ],
    );
    node("Azure, transparent", vec![own(card("eth0")), (routed("azv1a2b3c4d5e6", "10.240.0.9"), Pod)]);
    node("GKE", vec![own(card("eth0")), (routed("gke1a2b3c4d5e6", "10.4.0.7"), Pod)]);
    node(
        "Cilium",
        vec![
            own(card("eth0")),
            (interface("cilium_net", "veth"), Uplink),
            (interface("cilium_host", "veth"), Uplink),
            (interface("cilium_vxlan", "vxlan"), Uplink),
            (pair("lxc1a2b3c4d5e6"), Pod),
            (Interface { kind: "netkit".to_owned(), ..pair("lxcffee00112233") }, Pod),
            (pair("lxc_health"), Pod),
        ],
    );
    node(
        "Antrea",
        vec![
            own(card("eth0")),
            (interface("ovs-system", "openvswitch"), PodBridge),
            (port(2, interface("genev_sys_6081", "geneve")), Nothing),
            (addressed("10.244.1.1/24", interface("antrea-gw0", "openvswitch")), Uplink),
            (port(2, pair("web-7d4f9c-1a2b3c")), Pod),
        ],
    );
}

#[test]
fn the_network_card_of_a_containerised_node_is_not_a_pods_interface() {
    node(
        "kind",
        vec![
            own(pair("eth0")),
            (addressed("172.19.0.2/16", pair("eth1")), Uplink),
            // The plugin `ptp` gives its ends the gateway's address without a network.
            (
                Interface {
                    addrs: vec!["10.244.1.1".parse().unwrap()],
                    ..routed("veth1a2b3c4d", "10.244.1.10")
                },
                Pod,
            ),
        ],
    );
    node("kind on a bridge", vec![(port(2, pair("eth0")), Nothing), own(interface("br0", "bridge"))]);
    node(
        "unnumbered",
        vec![(by_default(pair("eth0")), Uplink), (Interface { has_router: true, ..pair("eth1") }, Uplink)],
    );
}

#[test]
fn other_interfaces_are_judged_by_their_kind_and_ports() {
    node(
        "Docker, libvirt, a bond",
        vec![
            (port(2, card("ens1")), Nothing),
            own(interface("bond0", "bond")),
            (addressed("172.17.0.1/16", interface("docker0", "bridge")), PodBridge),
            (addressed("172.18.0.1/16", interface("br-1a2b3c4d", "bridge")), PodBridge),
            (port(4, pair("vethffee001")), Pod),
            (addressed("192.168.122.1/24", interface("virbr0", "bridge")), Uplink),
            (port(6, interface("vnet0", "tun")), Nothing),
            (Interface { is_loopback: true, ..card("lo") }, Nothing),
            (Interface { is_up: false, ..card("ens9") }, Nothing),
            (addressed("10.96.0.10/24", interface("nodelocaldns", "dummy")), Nothing),
            (interface("kube-ipvs0", "dummy"), Nothing),
            (Interface { is_ethernet: false, ..interface("wg0", "wireguard") }, Uplink),
            (interface("veth-patch", "veth"), Uplink),
        ],
    );
    let (vrf, in_main) = (interface("blue", "vrf"), own(card("eth1")));
    node(
        "a card in a VRF",
        vec![(port(2, addressed("192.0.2.1/24", card("eth0"))), Uplink), (vrf, Nothing), in_main],
    );
}

#[test]
fn a_bridge_with_the_network_card_stays_an_uplink_when_pods_join_it() {
    for (bridge, pod) in [("br0", "vethflat"), ("azure0", "azv1a2b3c4d5e6")] {
        let lan = by_default(addressed("192.0.2.1/24", interface(bridge, "bridge")));
        let found = assigned(&RoleRules::default(), vec![port(2, card("eth0")), lan, port(2, pair(pod))]);
        assert_eq!(found.iter().map(|a| a.role).collect::<Vec<_>>(), [Nothing, Uplink, Nothing]);
        let doubt = found[1].doubt.as_deref().unwrap_or_default();
        assert!(doubt.contains(pod) && doubt.contains("clients from outside"), "{doubt}");
    }
}

#[test]
fn an_interface_with_an_uncertain_role_raises_a_doubt() {
    let found = assigned(&RoleRules::default(), vec![addressed("10.9.0.1/24", routed("odd0", "10.9.0.2"))]);
    assert_eq!(found[0].role, Uplink);
    let doubt = found[0].doubt.as_deref().unwrap_or_default();
    for part in ["10.9.0.1/24", "10.9.0.2", "--pod-interface", "--uplink"] {
        assert!(doubt.contains(part), "{part} in {doubt}");
    }
}

#[test]
fn a_tap_without_a_network_raises_a_doubt() {
    let tap = || interface("tap1a2b3c", "tun");
    let tun = Interface { is_ethernet: false, ..interface("tun0", "tun") };
    let list = vec![tap(), addressed("10.9.0.1/24", tap()), by_default(tap()), tun];
    let found = assigned(&RoleRules::default(), list);
    assert!(found.iter().all(|a| a.role == Uplink), "{found:#?}");
    assert_eq!(found.iter().map(|a| a.doubt.is_some()).collect::<Vec<_>>(), [true, false, false, false]);
    assert!(found[0].doubt.as_deref().unwrap_or_default().contains("--pod-interface"), "{found:#?}");
}

#[test]
fn flags_go_before_everything() {
    let rules = RoleRules {
        uplinks: vec!["veth-up".to_owned()],
        excluded: vec!["eth8".to_owned()],
        pods: vec!["tap*".to_owned()],
    };
    let list = vec![
        routed("veth-up", "10.244.1.10"),
        card("eth8"),
        interface("tap0", "tun"),
        port(5, interface("tap1", "tun")),
        interface("br1", "bridge"),
        card("eth0"),
    ];
    let found = assigned(&rules, list);
    assert_eq!(
        found.iter().map(|a| a.role).collect::<Vec<_>>(),
        [Uplink, Nothing, Pod, Pod, PodBridge, Uplink]
    );
    assert_eq!(found[0].reason, "--uplink veth-up");
    assert_eq!(found[2].reason, "--pod-interface tap*");
}
