//! The kernel programs, as the build script compiled them.

/// The ELF object (aligned for the parser).
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/svc-prog"));
