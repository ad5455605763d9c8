//! Arguments of the kernel's helpers, in its layout.

/// `struct bpf_fib_lookup` (linux/bpf.h). Each union has the member that is used here.
#[repr(C)]
pub struct FibParams {
    pub family: u8,
    pub l4_proto: u8,
    /// Both ports in network byte order.
    pub sport: u16,
    pub dport: u16,
    /// In: 1, which makes the kernel report the MTU. Out: the route's MTU.
    pub tot_len_mtu: u16,
    pub ifindex: u32,
    pub tos_flow: u32,
    pub src: [u32; 4],
    pub dst: [u32; 4],
    pub vlan: [u16; 2],
    pub smac: [u8; 6],
    pub dmac: [u8; 6],
}
const _: () = assert!(size_of::<FibParams>() == 64);

/// The next hop of an unresolved record: `struct bpf_redir_neigh` (linux/bpf.h). Without it the kernel would look for a
/// route of its own, by the translated source.
#[repr(C)]
pub struct Neighbor {
    /// Zero: none was found. May be IPv6 for an IPv4 packet (RFC 5549).
    pub family: u32,
    pub address: [u32; 4],
}
const _: () = assert!(size_of::<Neighbor>() == 20);
