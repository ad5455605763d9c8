//! Every map and global of the object, and nothing else. Capacities are defaults that the loader may override.

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

use crate::fib;

/// Not preallocated, so that a replaced value stays whole for its readers (freed by RCU, not reused at once).
const NO_PREALLOC: u32 = 1;
/// The daemon writes the table by memory and not by system calls (`BPF_F_MMAPABLE`, Linux 5.5).
const MMAPABLE: u32 = 1 << 10;

#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config {
    host_netns: [0; 2],
    snat_first: 1024,
    snat_count: 28_976,
    pod_sockets: 0,
    csum_ipv6_flag: 0,
    set_retval: 0,
    fib_source: 0,
    pods_by_source: 0,
    service_cidrs: 0,
    snat_ring: 28_961,
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
/// Tuples of answers to the node's own connections and to those that it masquerades, from ports of NodePorts, and the tick of
/// the last packet. Evictions are not counted: few connections have such a port, and the table holds the last thousands.
#[map]
pub static BYPASS4: LruHashMap<FlowKey<AddrV4>, u32> = LruHashMap::with_max_entries(limits::BYPASS, 0);
#[map]
pub static BYPASS6: LruHashMap<FlowKey<AddrV6>, u32> = LruHashMap::with_max_entries(limits::BYPASS, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(limits::COUNTERS, 0);
#[map]
pub static SERVICES: PerCpuArray<ServiceCounters> = PerCpuArray::with_max_entries(limits::SERVICES, 0);

/// Entries made and removed by programs, by [`EntryTable`].
#[map]
pub static ENTRIES: PerCpuArray<EntryCount> = PerCpuArray::with_max_entries(EntryTable::COUNT, 0);
/// One [`Migration`].
#[map]
pub static MIGRATION: Array<Migration> = Array::with_max_entries(1, 0);
/// The flow tables that are being replaced; of one entry, and never asked, while none is.
#[map]
pub static CARRIED4: LruHashMap<FlowKey<AddrV4>, FlowRecord<AddrV4>> = LruHashMap::with_max_entries(1, 0);
#[map]
pub static CARRIED6: LruHashMap<FlowKey<AddrV6>, FlowRecord<AddrV6>> = LruHashMap::with_max_entries(1, 0);

/// ICMP errors sent by this CPU: the tick they were counted in, and how many.
#[map]
pub static REJECTS: PerCpuArray<[u32; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Where a new flow is put together: not on the stack, which has 512 octets for a whole chain of calls.
#[repr(C)]
pub struct Scratch<A> {
    pub record: FlowRecord<A>,
    pub reverse: FlowRecord<A>,
    pub reverse_key: FlowKey<A>,
    pub forward_key: FlowKey<A>,
    pub claim: Claim,
    pub client: AffinityKey<A>,
    pub fragment: FragmentKey<A>,
    pub quoted: Quoted,
    pub packet: Packet<A>,
    pub chosen: Chosen,
    pub fib: fib::Params,
    /// The source that the second flow of a masquerade through the stack gives packets, and the first flow's record meanwhile.
    pub masquerade: A,
    pub first: FlowRecord<A>,
}

/// What the first packet of a flow gets; the verifier knows nothing of words that lie here.
#[repr(C)]
pub struct Chosen {
    pub service: ServiceId,
    pub flags: FrontendFlags,
    /// Seconds of session affinity.
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
pub struct Quoted {
    pub icmp: [u16; 4],
    /// An IP header, quoted or the error's own.
    pub header: HeaderWords,
    pub ports: Ports,
    pub check: u16,
    pub _pad: u16,
}

/// The search for a free reverse key.
#[repr(C)]
pub struct Claim {
    /// Delta of the ports as long as the client keeps its own.
    pub port_delta: Wsum,
    pub hash: u32,
    pub now: u32,
    /// Attempts so far. Here and not in a variable: the callback's stack has no room.
    pub tries: u32,
    /// Ticks since the last packet of the connection that holds `resting_port`.
    pub rest: u32,
    /// A port whose connection has closed less than [`CLOSED_PORT_REST`](svc_common::datapath::state::CLOSED_PORT_REST) ticks
    /// ago: the one that has rested longest, for want of a free one. In network byte order; 0: none was met.
    pub resting_port: u16,
    /// A port of the SNAT range from the first attempt on.
    pub takes_port: u8,
    /// The resting port is taken.
    pub takes_resting: u8,
    pub is_done: u8,
    pub _pad: [u8; 3],
}

#[map]
pub static SCRATCH4: PerCpuArray<Scratch<AddrV4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static SCRATCH6: PerCpuArray<Scratch<AddrV6>> = PerCpuArray::with_max_entries(1, 0);
