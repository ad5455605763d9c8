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
}

/// Decides by the configuration and by the node's firewall, routes and bridges.
pub fn masquerade_path(
    asked: ThroughStack,
    forward: &Forward,
    has_narrow_route: bool,
    is_bridge_filtered: bool,
    routes_by_source: bool,
) -> MasqueradePath {
    let reason = match (asked, &forward.policies) {
        (ThroughStack::Never, _) => None,
        (ThroughStack::Always, _) => Some("as configured".to_owned()),
        (ThroughStack::Auto, Some(chain)) => Some(format!("network policies are in FORWARD ({chain})")),
        // A FORWARD chain with policy DROP would block packets that pass now.
        (ThroughStack::Auto, None) => (has_narrow_route && !forward.is_closed)
            .then(|| "a route has a smaller MTU than its interface".to_owned()),
    };
    let Some(reason) = reason else {
        let narrows = asked == ThroughStack::Auto && !forward.is_closed;
        let narrows = if narrows { IfaceFlags::NARROWED_THROUGH_STACK } else { IfaceFlags::NONE };
        // Beside policies in FORWARD the stack must see the packets, wherever their replies leave.
        let local = if routes_by_source { IfaceFlags::LOCAL_PAST_STACK } else { IfaceFlags::NONE };
        return MasqueradePath { flags: narrows.with(local), words: "past the stack".to_owned() };
    };
    let bridged = if is_bridge_filtered { IfaceFlags::BRIDGE_FILTERED } else { IfaceFlags::NONE };
    MasqueradePath {
        flags: IfaceFlags::THROUGH_STACK.with(bridged),
        words: format!("through the stack: {reason}"),
    }
}

/// Netfilter of this network namespace sees bridged packets.
pub fn is_bridge_filtered() -> bool {
    BRIDGE_FILTERS.iter().all(|name| sysctl(name).is_some_and(|value| value == "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_and_routes_decide_unless_the_operator_does() {
        use ThroughStack::{Always, Auto, Never};
        let (none, through) = (IfaceFlags::NONE, IfaceFlags::THROUGH_STACK);
        let narrowed = IfaceFlags::NARROWED_THROUGH_STACK;
        // Configuration, policies in FORWARD, FORWARD drops, a narrow route; expected flags.
        let rows = [
            (Auto, false, false, false, narrowed),
            (Auto, false, true, false, none),
            (Auto, true, false, false, through),
            (Auto, true, true, false, through),
            (Auto, false, false, true, through),
            (Auto, false, true, true, none),
            (Always, false, false, false, through),
            (Never, true, false, true, none),
        ];
        for (asked, has_policies, is_closed, has_narrow_route, flags) in rows {
            let forward = Forward { policies: has_policies.then(|| "cali-FORWARD".to_owned()), is_closed };
            let path = masquerade_path(asked, &forward, has_narrow_route, false, false);
            assert_eq!(path.flags, flags, "{asked:?} {forward:?} {has_narrow_route}: {}", path.words);
        }
    }

    #[test]
    fn a_node_that_routes_by_source_reaches_its_pods_past_the_stack_unless_forward_has_policies() {
        let of = |asked, policies: Option<&str>| {
            let forward = Forward { policies: policies.map(str::to_owned), is_closed: false };
            masquerade_path(asked, &forward, false, false, true).flags.has(IfaceFlags::LOCAL_PAST_STACK)
        };
        assert!(of(ThroughStack::Auto, None) && of(ThroughStack::Never, Some("cali-FORWARD")));
        assert!(!of(ThroughStack::Auto, Some("cali-FORWARD")) && !of(ThroughStack::Always, None));
    }

    #[test]
    fn bridged_packets_go_through_the_stack_only_if_all_masqueraded_packets_do() {
        let flags = |asked| masquerade_path(asked, &Forward::default(), false, true, false).flags;
        assert!(flags(ThroughStack::Always).has(IfaceFlags::BRIDGE_FILTERED));
        assert!(!flags(ThroughStack::Auto).has(IfaceFlags::BRIDGE_FILTERED));
    }
}
