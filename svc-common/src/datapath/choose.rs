//! Decisions about a packet or a socket call without a flow record, up to the list of backends to choose from.

use crate::abi::{AddressFlags, FrontendFlags, FrontendValue, Locality};
use crate::addr::Proto;

/// Decision about a destination without a frontend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WithoutFrontend {
    /// An address of this node: the node itself answers (SEM-023).
    Own,
    /// A port that a ClusterIP does not have: refused (SEM-095).
    UnknownPort,
    /// A port that an external address does not have: dropped, if so configured (SEM-096).
    UnknownExternalPort,
    /// An address of a Service CIDR that no Service has: dropped (SEM-095).
    Unallocated,
    /// Left alone (SEM-096, SEM-107, SEM-108).
    NoService,
}

/// Decides by the properties of the address. `is_in_service_cidr` is called last, because it costs a look-up.
#[inline(always)]
pub fn without_frontend(
    address: AddressFlags,
    drops_unknown_ports: bool,
    is_in_service_cidr: impl FnOnce() -> bool,
) -> WithoutFrontend {
    if address.has(AddressFlags::LOCAL) {
        WithoutFrontend::Own
    } else if address.has(AddressFlags::CLUSTER_IP) {
        WithoutFrontend::UnknownPort
    } else if drops_unknown_ports && address.has(AddressFlags::EXTERNAL_IP) {
        WithoutFrontend::UnknownExternalPort
    } else if is_in_service_cidr() {
        WithoutFrontend::Unallocated
    } else {
        WithoutFrontend::NoService
    }
}

/// The address accepts NodePorts from this client. A pod's localhost is its own (SEM-107).
#[inline(always)]
pub const fn accepts_node_port(address: AddressFlags, is_host: bool) -> bool {
    address.has(AddressFlags::NODE_PORT) || (is_host && address.has(AddressFlags::NODE_PORT_OF_HOST))
}

/// The client chooses from the list for policy Local. `is_inside`: it is a local pod or this node (SEM-085, SEM-098).
#[inline(always)]
pub const fn chooses_local(flags: FrontendFlags, is_inside: bool) -> bool {
    flags.has(FrontendFlags::LOCAL_ONLY) && !is_inside
}

/// The frontend's Maglev table selects the backend.
#[inline(always)]
pub const fn has_table(frontend: &FrontendValue, chooses_local: bool) -> bool {
    frontend.maglev.count != 0 && (chooses_local || !frontend.flags.has(FrontendFlags::LOCAL_ONLY))
}

/// If a pod dials this frontend, the socket hooks leave the call to the packet programs, because only those can
/// masquerade.
#[inline(always)]
pub const fn is_left_to_packets(flags: FrontendFlags) -> bool {
    flags.has(FrontendFlags::EXTERNAL) || flags.has(FrontendFlags::MASQUERADE_PODS)
}

/// The same for a backend: a server of the node that is bound to the wildcard address may answer a pod's datagram from any
/// address of the node, which only the programs of packets recognise.
#[inline(always)]
pub const fn is_backend_left_to_packets(proto: Proto, locality: Locality) -> bool {
    proto.0 == Proto::UDP.0 && locality.0 == Locality::HOST.0
}

/// This node may dial the frontend: its source, which is not chosen yet, is in the source ranges (SEM-031).
#[inline(always)]
pub const fn admits_node(flags: FrontendFlags) -> bool {
    !flags.has(FrontendFlags::SOURCE_RANGES) || flags.has(FrontendFlags::NODE_IN_RANGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Extent;

    #[test]
    fn a_destination_without_frontend_is_decided_by_its_address() {
        let flags = |all: &[AddressFlags]| AddressFlags(all.iter().fold(0, |sum, flag| sum | flag.0));
        let (local, cluster, external) =
            (AddressFlags::LOCAL, AddressFlags::CLUSTER_IP, AddressFlags::EXTERNAL_IP);
        for (address, drops, in_cidr, expected) in [
            (flags(&[local, cluster, external]), true, true, WithoutFrontend::Own),
            (flags(&[cluster, external]), true, true, WithoutFrontend::UnknownPort),
            (external, true, true, WithoutFrontend::UnknownExternalPort),
            (external, false, true, WithoutFrontend::Unallocated),
            (external, false, false, WithoutFrontend::NoService),
            (flags(&[]), true, true, WithoutFrontend::Unallocated),
            (flags(&[]), true, false, WithoutFrontend::NoService),
        ] {
            let found = without_frontend(address, drops, || in_cidr);
            assert_eq!(found, expected, "{address:?} {drops} {in_cidr}");
        }
    }

    #[test]
    fn policy_local_and_its_table_are_for_clients_from_outside() {
        let table = Extent { first: 0, count: 1 };
        let frontend = |flags| FrontendValue { flags, maglev: table, ..FrontendValue::default() };
        let plain = FrontendFlags::default();
        // Flags, whether the client is inside; does it choose from the local list, does a table place it.
        for (flags, is_inside, expected) in [
            (plain, false, (false, true)),
            (plain, true, (false, true)),
            (FrontendFlags::LOCAL_ONLY, false, (true, true)),
            (FrontendFlags::LOCAL_ONLY, true, (false, false)),
        ] {
            let is_local = chooses_local(flags, is_inside);
            assert_eq!((is_local, has_table(&frontend(flags), is_local)), expected, "{flags:?} {is_inside}");
        }
        assert!(!has_table(&FrontendValue::default(), false));
    }

    #[test]
    fn a_nodeport_at_localhost_is_for_the_node_alone() {
        let own = AddressFlags::NODE_PORT_OF_HOST;
        assert!(accepts_node_port(own, true) && !accepts_node_port(own, false));
        assert!(accepts_node_port(AddressFlags::NODE_PORT, false));
        assert!(admits_node(FrontendFlags::default()) && !admits_node(FrontendFlags::SOURCE_RANGES));
    }
}
