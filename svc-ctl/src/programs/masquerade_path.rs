//! Decides whether masqueraded packets go through the stack or past it.

use svc_common::abi::IfaceFlags;

use super::firewall::Forward;
use crate::config::ThroughStack;
use crate::node::sysctl;

/// Sysctls that make netfilter see bridged packets, for each family.
const BRIDGE_FILTERS: [&str; 2] =
    ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];

/// Decision for masqueraded packets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MasqueradePath {
    /// Flags for every interface.
    pub flags: IfaceFlags,
    /// The decision and its reason, for people.
    pub words: String,
    /// Connections from outside are lost: netfilter sees them on the bridge before svc does.
    pub is_spoilt_by_bridge: bool,
}

/// The node's routes and bridges, as far as they decide.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeNetwork {
    /// A route has a smaller MTU than its interface.
    pub has_narrow_route: bool,
    /// A rule chooses routes by the source address.
    pub routes_by_source: bool,
    /// A rule chooses routes by the mark, which only the stack knows.
    pub routes_by_mark: bool,
    /// An uplink is a bridge.
    pub has_bridge_uplink: bool,
    /// Netfilter sees bridged packets.
    pub bridges: BridgeFilter,
}

/// Families whose bridged packets netfilter sees.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BridgeFilter {
    #[default]
    None,
    OneFamily,
    All,
}

/// Decides by the configuration and by the node's firewall, routes and bridges.
pub fn masquerade_path(asked: ThroughStack, forward: &Forward, node_network: NodeNetwork) -> MasqueradePath {
    let reason = match (asked, &forward.policies) {
        (ThroughStack::Never, _) => None,
        (ThroughStack::Always, _) => Some("as configured".to_owned()),
        (ThroughStack::Auto, Some(chain)) => Some(format!("network policies are in FORWARD ({chain})")),
        // A FORWARD chain with policy DROP would block packets that pass now.
        (ThroughStack::Auto, None) if forward.is_closed => None,
        (ThroughStack::Auto, None) => match &forward.filter {
            Some(chain) => Some(format!("a rule in FORWARD drops packets ({chain})")),
            None if node_network.routes_by_mark => Some("a rule routes packets by their mark".to_owned()),
            None => node_network
                .has_narrow_route
                .then(|| "a route has a smaller MTU than its interface".to_owned()),
        },
    };
    // A packet on a bridge meets conntrack before it meets svc, with the Service's address: the answer, with the pod's, is
    // invalid to conntrack. Beside policies in FORWARD the stack must see the packets all the same.
    let meets_conntrack_first = node_network.has_bridge_uplink && node_network.bridges != BridgeFilter::None;
    let Some(reason) = reason else {
        let narrows = asked == ThroughStack::Auto && !forward.is_closed;
        let narrows = if narrows { IfaceFlags::NARROWED_THROUGH_STACK } else { IfaceFlags::NONE };
        // FORWARD accepts no packets there, and no rule drops some of them on purpose.
        let is_dropped = asked == ThroughStack::Auto && forward.is_closed && forward.filter.is_none();
        let is_past = node_network.routes_by_source || meets_conntrack_first || is_dropped;
        let local = if is_past { IfaceFlags::LOCAL_PAST_STACK } else { IfaceFlags::NONE };
        let words = "past the stack".to_owned();
        return MasqueradePath { flags: narrows.with(local), words, is_spoilt_by_bridge: false };
    };
    let is_filtered = node_network.bridges == BridgeFilter::All;
    let bridged = if is_filtered { IfaceFlags::BRIDGE_FILTERED } else { IfaceFlags::NONE };
    MasqueradePath {
        flags: IfaceFlags::THROUGH_STACK.with(bridged),
        words: format!("through the stack: {reason}"),
        is_spoilt_by_bridge: meets_conntrack_first,
    }
}

/// The setting of this network namespace.
pub fn bridge_filter() -> BridgeFilter {
    let families = BRIDGE_FILTERS.iter().filter(|name| sysctl(name).is_some_and(|value| value == "1"));
    match families.count() {
        0 => BridgeFilter::None,
        2 => BridgeFilter::All,
        _ => BridgeFilter::OneFamily,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_that_netfilter_sees_breaks_the_path_through_the_stack() {
        let through = |has_bridge_uplink, bridges| {
            let node_network = NodeNetwork { has_bridge_uplink, bridges, ..NodeNetwork::default() };
            masquerade_path(ThroughStack::Always, &Forward::default(), node_network).is_spoilt_by_bridge
        };
        assert!(through(true, BridgeFilter::All) && through(true, BridgeFilter::OneFamily));
        assert!(!through(true, BridgeFilter::None) && !through(false, BridgeFilter::All));
        let node_network =
            NodeNetwork { has_bridge_uplink: true, bridges: BridgeFilter::All, ..NodeNetwork::default() };
        assert!(!masquerade_path(ThroughStack::Never, &Forward::default(), node_network).is_spoilt_by_bridge);
    }

    #[test]
    fn policies_and_routes_decide_unless_the_operator_does() {
        use ThroughStack::{Always, Auto, Never};
        let (none, through) = (IfaceFlags::NONE, IfaceFlags::THROUGH_STACK);
        let narrowed = IfaceFlags::NARROWED_THROUGH_STACK;
        let filtered = Forward { filter: Some("filter my-policies".to_owned()), ..Forward::default() };
        assert_eq!(masquerade_path(Auto, &filtered, NodeNetwork::default()).flags, through);
        assert_eq!(masquerade_path(Never, &filtered, NodeNetwork::default()).flags, none);
        let by_mark = NodeNetwork { routes_by_mark: true, ..NodeNetwork::default() };
        assert_eq!(masquerade_path(Auto, &Forward::default(), by_mark).flags, through);
        let closed = Forward { is_closed: true, ..Forward::default() };
        let local_past = IfaceFlags::LOCAL_PAST_STACK;
        assert_eq!(masquerade_path(Auto, &closed, by_mark).flags, local_past);
        let closed_with_drops = Forward { filter: filtered.filter, ..closed };
        assert_eq!(masquerade_path(Auto, &closed_with_drops, NodeNetwork::default()).flags, none);
        // Configuration, policies in FORWARD, FORWARD drops, a narrow route; expected flags.
        let rows = [
            (Auto, false, false, false, narrowed),
            (Auto, false, true, false, local_past),
            (Auto, true, false, false, through),
            (Auto, true, true, false, through),
            (Auto, false, false, true, through),
            (Auto, false, true, true, local_past),
            (Always, false, false, false, through),
            (Never, true, false, true, none),
        ];
        for (asked, has_policies, is_closed, has_narrow_route, flags) in rows {
            let policies = has_policies.then(|| "cali-FORWARD".to_owned());
            let forward = Forward { policies, is_closed, ..Forward::default() };
            let path =
                masquerade_path(asked, &forward, NodeNetwork { has_narrow_route, ..NodeNetwork::default() });
            assert_eq!(path.flags, flags, "{asked:?} {forward:?} {has_narrow_route}: {}", path.words);
        }
    }

    #[test]
    fn pods_are_reached_past_a_stack_that_misleads_unless_forward_has_policies() {
        let by_source = NodeNetwork { routes_by_source: true, ..NodeNetwork::default() };
        let bridge = |bridges| NodeNetwork { has_bridge_uplink: true, bridges, ..NodeNetwork::default() };
        let of = |asked, policies: Option<&str>, node_network| {
            let forward = Forward { policies: policies.map(str::to_owned), ..Forward::default() };
            masquerade_path(asked, &forward, node_network).flags.has(IfaceFlags::LOCAL_PAST_STACK)
        };
        for node_network in [by_source, bridge(BridgeFilter::OneFamily), bridge(BridgeFilter::All)] {
            assert!(of(ThroughStack::Auto, None, node_network), "{node_network:?}");
            assert!(of(ThroughStack::Never, Some("cali-FORWARD"), node_network), "{node_network:?}");
            assert!(!of(ThroughStack::Auto, Some("cali-FORWARD"), node_network), "{node_network:?}");
            assert!(!of(ThroughStack::Always, None, node_network), "{node_network:?}");
        }
        let no_bridge_uplink = NodeNetwork { bridges: BridgeFilter::All, ..NodeNetwork::default() };
        for node_network in [bridge(BridgeFilter::None), no_bridge_uplink] {
            assert!(!of(ThroughStack::Auto, None, node_network), "{node_network:?}");
        }
    }

    #[test]
    fn bridged_packets_go_through_the_stack_only_if_all_masqueraded_packets_do() {
        let node_network = NodeNetwork { bridges: BridgeFilter::All, ..NodeNetwork::default() };
        let flags = |asked| masquerade_path(asked, &Forward::default(), node_network).flags;
        assert!(flags(ThroughStack::Always).has(IfaceFlags::BRIDGE_FILTERED));
        assert!(!flags(ThroughStack::Auto).has(IfaceFlags::BRIDGE_FILTERED));
    }
}
