//! Every map and global of the object. Capacities are defaults that the loader may override.

use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use svc_common::abi::limits;
use svc_common::abi::*;
use svc_common::addr::{AddrV4, AddrV6};
use svc_common::wire::checksum::Wsum;
use svc_common::wire::ip::Ports;
use svc_common::wire::parse::Packet;
use svc_common::wire::rewrite::HeaderWords;

use crate::kernel_structs::{FibParams, Neighbor};

/// Not preallocated. A replaced value is freed after an RCU grace period instead of being reused at once, so readers
/// never see it change.
const NO_PREALLOC: u32 = 1;
/// The daemon writes the table through a memory mapping instead of system calls (`BPF_F_MMAPABLE`, Linux 5.5).
const MMAPABLE: u32 = 1 << 10;

#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config {
    host_netns: [0; 2],
    snat_first: 1024,
    snat_count: 28_976,
    pod_sockets: PodSockets::OFF,
    csum_ipv6_flag: 0,
    set_retval: 0,
    fib_source: 0,
    pods_by_source: 0,
    service_cidrs: 0,
    drops_unknown_ports: 0,
    pools: 0,
    _pad: [0; 2],
    snat_ring: 28_961,
    new_flow_interval: 0,
});

#[map]
pub static FRONTENDS4: HashMap<FrontendKey<AddrV4>, FrontendValue> =
    HashMap::with_max_entries(limits::FRONTENDS, NO_PREALLOC);
#[map]
pub static FRONTENDS6: HashMap<FrontendKey<AddrV6>, FrontendValue> =
    HashMap::with_max_entries(limits::FRONTENDS, NO_PREALLOC);
#[map]
pub static SELECTION: Array<u32> = Array::with_max_entries(limits::SELECTION, MMAPABLE);
#[map]
pub static MAGLEV: Array<MaglevPage> = Array::with_max_entries(limits::MAGLEV, MMAPABLE);
#[map]
pub static BACKENDS4: Array<BackendValue<AddrV4>> = Array::with_max_entries(limits::BACKENDS, MMAPABLE);
#[map]
pub static BACKENDS6: Array<BackendValue<AddrV6>> = Array::with_max_entries(limits::BACKENDS, MMAPABLE);
#[map]
pub static FLOWS4: LruHashMap<FlowKey<AddrV4>, FlowRecord<AddrV4>> =
    LruHashMap::with_max_entries(limits::FLOWS, 0);
#[map]
pub static FLOWS6: LruHashMap<FlowKey<AddrV6>, FlowRecord<AddrV6>> =
    LruHashMap::with_max_entries(limits::FLOWS, 0);
/// Flows that are not assured yet. Looked up after the flow table.
#[map]
pub static UNASSURED4: LruHashMap<FlowKey<AddrV4>, FlowRecord<AddrV4>> =
    LruHashMap::with_max_entries(limits::UNASSURED, 0);
#[map]
pub static UNASSURED6: LruHashMap<FlowKey<AddrV6>, FlowRecord<AddrV6>> =
    LruHashMap::with_max_entries(limits::UNASSURED, 0);
#[map]
pub static ADDRESSES4: HashMap<AddrV4, AddressFlags> =
    HashMap::with_max_entries(limits::ADDRESSES, NO_PREALLOC);
#[map]
pub static ADDRESSES6: HashMap<AddrV6, AddressFlags> =
    HashMap::with_max_entries(limits::ADDRESSES, NO_PREALLOC);
#[map]
pub static PREFIXES4: LpmTrie<PrefixKey<AddrV4>, u8> =
    LpmTrie::with_max_entries(limits::PREFIXES, NO_PREALLOC);
#[map]
pub static PREFIXES6: LpmTrie<PrefixKey<AddrV6>, u8> =
    LpmTrie::with_max_entries(limits::PREFIXES, NO_PREALLOC);
#[map]
pub static IFACES: HashMap<u32, Iface> = HashMap::with_max_entries(limits::IFACES, NO_PREALLOC);
#[map]
pub static SOCKETS4: LruHashMap<SockKey<AddrV4>, SockValue<AddrV4>> =
    LruHashMap::with_max_entries(limits::SOCKETS, 0);
#[map]
pub static SOCKETS6: LruHashMap<SockKey<AddrV6>, SockValue<AddrV6>> =
    LruHashMap::with_max_entries(limits::SOCKETS, 0);
#[map]
pub static AFFINITY4: LruHashMap<AffinityKey<AddrV4>, AffinityValue> =
    LruHashMap::with_max_entries(limits::AFFINITY, 0);
#[map]
pub static AFFINITY6: LruHashMap<AffinityKey<AddrV6>, AffinityValue> =
    LruHashMap::with_max_entries(limits::AFFINITY, 0);
#[map]
pub static FRAGMENTS4: LruHashMap<FragmentKey<AddrV4>, FragmentPorts> =
    LruHashMap::with_max_entries(limits::FRAGMENTS, 0);
#[map]
pub static FRAGMENTS6: LruHashMap<FragmentKey<AddrV6>, FragmentPorts> =
    LruHashMap::with_max_entries(limits::FRAGMENTS, 0);
/// Reply tuples of connections from NodePorts, of the node itself or masqueraded by it, with the tick of the last
/// packet. Evictions are not counted: such connections are few, and the table holds thousands.
#[map]
pub static BYPASS4: LruHashMap<FlowKey<AddrV4>, u32> = LruHashMap::with_max_entries(limits::BYPASS, 0);
#[map]
pub static BYPASS6: LruHashMap<FlowKey<AddrV6>, u32> = LruHashMap::with_max_entries(limits::BYPASS, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(limits::COUNTERS, 0);
#[map]
pub static SERVICES: PerCpuArray<ServiceCounters> = PerCpuArray::with_max_entries(limits::SERVICES, 0);

/// Entries inserted and removed by programs, by [`EntryTable`].
#[map]
pub static ENTRIES: PerCpuArray<EntryCount> = PerCpuArray::with_max_entries(EntryTable::COUNT, 0);
/// The node's secret, which keys the hash for source ports ([`svc_common::datapath::port_hash`]).
#[map]
pub static PORT_SECRET: Array<u64> = Array::with_max_entries(1, 0);
/// The daemon's lease, by [`Lease`].
#[map]
pub static LEASE: Array<u32> = Array::with_max_entries(Lease::COUNT, 0);
/// One [`Migration`].
#[map]
pub static MIGRATION: Array<Migration> = Array::with_max_entries(1, 0);
/// The flow tables that are being replaced. While there are none, these have one entry and are not read.
#[map]
pub static CARRIED4: LruHashMap<FlowKey<AddrV4>, FlowRecord<AddrV4>> = LruHashMap::with_max_entries(1, 0);
#[map]
pub static CARRIED6: LruHashMap<FlowKey<AddrV6>, FlowRecord<AddrV6>> = LruHashMap::with_max_entries(1, 0);

/// Load-balancer addresses that this node answers for. Only ARP and neighbor discovery look here.
#[map]
pub static ANNOUNCED: HashMap<AnnouncedKey, Announced> =
    HashMap::with_max_entries(limits::ANNOUNCED, NO_PREALLOC);
/// Link-layer addresses of the other nodes of the cluster.
#[map]
pub static NODE_MACS: HashMap<NodeMac, u32> = HashMap::with_max_entries(limits::NODE_MACS, NO_PREALLOC);

/// The ticks at which pods dialled first while the daemon ran, by the cookies of their network namespaces.
#[map]
pub static POD_NETNS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(limits::POD_NETNS, 0);

/// The presence filter ([`svc_common::datapath::presence`]). The daemon and programs add marks.
#[map]
pub static PRESENCE: Array<[u64; limits::PRESENCE as usize]> = Array::with_max_entries(1, MMAPABLE);

/// The tick that this CPU last read from the clock, and the jiffies of that moment.
#[repr(C)]
pub struct Clock {
    pub jiffies: u64,
    pub tick: u64,
}

#[map]
pub static CLOCK: PerCpuArray<Clock> = PerCpuArray::with_max_entries(1, 0);

/// The tick of this CPU's last ICMP error, and the number of errors in that tick.
#[map]
pub static REJECTS: PerCpuArray<[u32; 2]> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's budget of new flows ([`svc_common::datapath::budget`]).
#[map]
pub static NEW_FLOWS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Working memory for a new flow. The stack has 512 octets for a whole chain of calls.
#[repr(C)]
pub struct Scratch<A> {
    pub record: FlowRecord<A>,
    pub reverse: FlowRecord<A>,
    /// Copy of a record that is only read.
    pub found: FlowRecord<A>,
    pub reverse_key: FlowKey<A>,
    pub forward_key: FlowKey<A>,
    pub claim: Claim<A>,
    pub client: AffinityKey<A>,
    pub fragment: FragmentKey<A>,
    pub inner: InnerPacket,
    pub packet: Packet<A>,
    pub chosen: Chosen,
    pub fib: FibParams,
    pub neighbor: Neighbor,
    /// The destination that `neighbor` is for.
    pub neighbor_of: A,
    /// SNAT address of the second flow of a masquerade through the stack, and the first flow's record in the
    /// meantime.
    pub masquerade: A,
    pub first: FlowRecord<A>,
}

/// Properties of a new flow. The verifier does not track words that are stored here.
#[repr(C)]
pub struct Chosen {
    pub service: ServicePortId,
    pub flags: FrontendFlags,
    /// Timeout of session affinity, in seconds.
    pub affinity: u32,
    /// 1: the client is a local pod.
    pub is_pod: u32,
    /// [`crate::choose::Choice`].
    pub choice: u32,
    /// Id of the backend.
    pub backend: u32,
}

/// Parts of an ICMP error.
#[repr(C)]
pub struct InnerPacket {
    pub icmp: [u16; 4],
    /// An IP header: the quoted one or the error's own.
    pub header: HeaderWords,
    pub ports: Ports,
    pub check: u16,
    pub _pad: u16,
}

/// The search for a free reverse key.
#[repr(C)]
pub struct Claim<A> {
    /// The client's key.
    pub key: FlowKey<A>,
    /// Delta of the ports while the client keeps its own port.
    pub port_delta: Wsum,
    pub hash: u32,
    pub now: u32,
    /// Attempts so far. Stored here because the callback's stack has no room.
    pub tries: u32,
    /// Ticks since the last packet of the connection that holds `resting_port`.
    pub rest: u32,
    /// The port that has rested longest of those that may be taken if no port is free. Their connection closed less than
    /// [`CLOSED_PORT_REST`](svc_common::datapath::state::CLOSED_PORT_REST) ticks ago, or is not assured and had its last
    /// packet [`UNASSURED_PORT_REST`](limits::UNASSURED_PORT_REST) ticks ago or earlier. In network byte order; 0: none
    /// seen.
    pub resting_port: u16,
    /// The first attempt already takes a port of the SNAT range.
    pub takes_port: u8,
    /// The search is over and takes the resting port.
    pub takes_resting: u8,
    pub is_done: u8,
    pub _pad: [u8; 3],
}

#[map]
pub static SCRATCH4: PerCpuArray<Scratch<AddrV4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static SCRATCH6: PerCpuArray<Scratch<AddrV6>> = PerCpuArray::with_max_entries(1, 0);
