//! Code that the kernel programs and the daemon share.
//!
//! Compiled twice: for BPF (no heap, no panics, no 128-bit arithmetic) and for the host, where the same code is
//! tested. Nothing here knows aya maps, clocks, randomness or Kubernetes.
#![cfg_attr(not(test), no_std)]

pub mod abi;
pub mod addr;
pub mod datapath;
pub mod family;
pub mod half_sip;
pub mod wire;
