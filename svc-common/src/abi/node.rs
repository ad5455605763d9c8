//! Interfaces and addresses of the node, as the programs see them.

use super::{abi, bits};
use crate::addr::{AddrV4, AddrV6};

/// Role of an interface; each interface has one.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Role(pub u32);

impl Role {
    pub const NONE: Self = Self(0);
    /// Towards other nodes and clients.
    pub const UPLINK: Self = Self(1);
    /// Host end of a pod's link.
    pub const POD: Self = Self(2);
    /// A bridge whose ports are pod interfaces; gets no program.
    pub const POD_BRIDGE: Self = Self(3);
}

/// Value of the interface table; the key is the interface index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Iface {
    pub role: Role,
    /// Index of the pods' bridge that the interface is a port of, or of the interface itself if it is an uplink and a
    /// bridge; 0: none.
    pub bridge: u32,
    /// SNAT address for packets masqueraded out of this interface (SEM-087); zero if the node has none of the family.
    pub snat_v4: AddrV4,
    pub snat_v6: AddrV6,
    /// Its MAC; zero on devices without an Ethernet header.
    pub mac: [u8; 6],
    pub flags: IfaceFlags,
}

impl Iface {
    /// Packets leave this interface with an Ethernet header.
    #[inline(always)]
    pub const fn has_link_header(&self) -> bool {
        let m = &self.mac;
        m[0] | m[1] | m[2] | m[3] | m[4] | m[5] != 0
    }
}

/// Properties of an interface, a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IfaceFlags(pub u16);

impl IfaceFlags {
    pub const NONE: Self = Self(0);
    /// Native XDP runs here, so frames that XDP redirects to this interface are sent.
    pub const TAKES_XDP: Self = Self(1);
    /// Packets that arrive by this interface come from a local pod (SEM-090).
    pub const LOCAL_PODS: Self = Self(2);
    /// Masqueraded packets that arrive by this interface go through the stack, so that its rules see client and
    /// backend: DNAT at ingress, SNAT at egress.
    pub const THROUGH_STACK: Self = Self(4);
    /// Like [`Self::THROUGH_STACK`], only for IPv4 datagrams whose path has a smaller MTU: the stack fragments them.
    pub const NARROWED_THROUGH_STACK: Self = Self(8);
    /// Netfilter sees bridged packets (`net.bridge.bridge-nf-call-iptables`), so packets between ports of one bridge
    /// may go through the stack.
    pub const BRIDGE_FILTERED: Self = Self(16);
    /// The node routes by source, so the stack would send replies by another interface than that of the Service's address; or
    /// the uplink is a bridge whose packets meet conntrack before svc. Packets from outside to pods of this node, and their
    /// replies, are redirected past the stack. Replies of the node's own servers are routed by the Service's address at egress.
    pub const LOCAL_PAST_STACK: Self = Self(32);
}

/// Properties of an address of this node or of a Service, a set of bits; value of the address table, whose key is the
/// address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressFlags(pub u32);

impl AddressFlags {
    /// Assigned to an interface of this node.
    pub const LOCAL: Self = Self(1);
    /// Accepts NodePorts (SEM-020 to SEM-023).
    pub const NODE_PORT: Self = Self(2);
    /// The ClusterIP of a Service: a port that it does not have is refused (SEM-095).
    pub const CLUSTER_IP: Self = Self(4);
    /// An external IP or load-balancer IP of a Service.
    pub const EXTERNAL_IP: Self = Self(8);
    /// Accepts NodePorts from processes of the node alone, never from a packet: 127.0.0.1 and ::1 (SEM-025).
    pub const NODE_PORT_OF_HOST: Self = Self(16);
    /// Each of the kinds of addresses at which packets may have a frontend.
    pub const OF_FRONTENDS: Self = Self(Self::NODE_PORT.0 | Self::CLUSTER_IP.0 | Self::EXTERNAL_IP.0);
}

abi! { Iface = 36, AddressFlags = 4, AddrV4 = 4, AddrV6 = 16 }
bits! { IfaceFlags, AddressFlags }
