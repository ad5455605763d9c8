//! The kernel programs that the build script compiled.

/// The ELF object (aligned for the parser).
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/svc-prog"));
