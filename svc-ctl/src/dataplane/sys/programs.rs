//! Queries loaded programs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{bpf, object_info, owned};

const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;

/// Maximum number of maps to query per program.
const MAPS: usize = 64;

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited_insns: u64,
    xlated_insns: u64,
    load_time: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// Identity of a program, and the maps that it uses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProgramInfo {
    pub id: u32,
    /// The kernel's hash of the instructions, without the maps.
    pub tag: [u8; 8],
    /// The first fifteen characters.
    pub name: String,
    pub maps: Vec<u32>,
}

/// Queries a program.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut maps = [0_u32; MAPS];
    let mut info =
        RawInfo { map_count: MAPS as u32, map_ids: maps.as_mut_ptr() as u64, ..RawInfo::default() };
    object_info(program, &mut info)?;
    let name = info.name.iter().take_while(|octet| **octet != 0).map(|octet| char::from(*octet)).collect();
    let count = MAPS.min(info.map_count as usize);
    Ok(ProgramInfo { id: info.id, tag: info.tag, name, maps: maps.iter().take(count).copied().collect() })
}

/// Opens a program by its id, for example from a link.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = [id, 0, 0];
    bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).map(owned)
}
