//! The hooks of programs as the kernel knows them, and the names of their links.

/// The socket programs, with the `enum bpf_attach_type` of each.
pub const CGROUP_HOOKS: [(&str, u32); 9] = [
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("sock_release", 34),
];
pub(super) const BPF_XDP: u32 = 37;
pub const TCX_INGRESS: u32 = 46;
pub const TCX_EGRESS: u32 = 47;
/// `BPF_F_BEFORE`: before all other programs. Without it a program comes last.
pub(super) const FIRST: u32 = 1 << 3;

pub(super) const XDP_SKB_MODE: u32 = 1 << 1;
pub(super) const XDP_DRV_MODE: u32 = 1 << 2;

/// Priority of our clsact filters (kernels without tcx).
pub const CLSACT_PRIORITY: u16 = 0x5c;

/// A TC hook of an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TcHook {
    Ingress,
    Egress,
}

impl TcHook {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// XDP mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpMode {
    Native,
    Generic,
}

impl XdpMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    pub const fn program(self) -> &'static str {
        match self {
            Self::Native => "uplink_xdp",
            Self::Generic => "uplink_xdp_skb",
        }
    }
}

/// The socket programs.
pub fn cgroup_programs() -> impl Iterator<Item = &'static str> {
    CGROUP_HOOKS.iter().map(|(program, _)| *program)
}

/// Name of the pinned link of a program at a TC hook.
pub fn tcx_label(hook: TcHook, index: u32) -> String {
    format!("tcx-{}-{index}", hook.label())
}

/// Name of the pinned link of a socket program.
pub fn cgroup_label(program: &str) -> String {
    format!("cgroup-{program}")
}
