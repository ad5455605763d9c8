//! The smallest XDP program on a veth: what comes by XDP_TX from its far end is only delivered while a program is
//! attached here (`veth_xdp_flush` wakes nobody otherwise; seen on 6.18, where GRO alone is not enough).

use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use svc_ctl::dataplane::sys;

use crate::netns::Netns;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u32; 4],
    _rest: [u64; 12],
}

/// Attaches the program; it stays as long as the descriptor.
pub fn attach(netns: &Netns, interface: &str) -> Result<OwnedFd> {
    netns
        .within(|| {
            let index = nix::net::if_::if_nametoindex(interface)?;
            let program = load()?;
            Ok(sys::link_create(program.as_fd(), index, BPF_XDP, XDP_DRV_MODE)?)
        })
        .with_context(|| format!("XDP on {interface}"))
}

fn load() -> io::Result<OwnedFd> {
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: PASS.len() as u32,
        insns: PASS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    // SAFETY: the attribute has the kernel's layout and, like what it points to, outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw mut attr, size_of::<ProgLoad>()) };
    // SAFETY: the kernel just made this descriptor for us.
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }) }
}
