//! A minimal XDP program for a veth: frames that its far end sends by XDP_TX are only delivered while a program is
//! attached here (`veth_xdp_flush` does not wake the receiver otherwise; seen on 6.18, where GRO alone is not
//! enough).

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use svc_ctl::dataplane::sys;

use crate::bpf;
use crate::netns::Netns;

const BPF_XDP: u32 = 37;
const XDP_DRV_MODE: u32 = 1 << 2;

const XDP_PASS: u32 = 2;
const PASS: [u64; 2] = [bpf::set(0, XDP_PASS), bpf::EXIT];

/// Attaches the program as long as the descriptor is open.
pub fn attach(netns: &Netns, interface: &str) -> Result<OwnedFd> {
    netns
        .within(|| {
            let index = nix::net::if_::if_nametoindex(interface)?;
            let program = bpf::load(bpf::BPF_PROG_TYPE_XDP, &PASS)?;
            Ok(sys::link_create(program.as_fd(), index, BPF_XDP, XDP_DRV_MODE)?)
        })
        .with_context(|| format!("XDP on {interface}"))
}
