//! Makes maps of any shape, and queries maps.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{bpf, object_info, owned};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;

/// `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum MapKind {
    Hash = 1,
    Array = 2,
    PerCpuArray = 6,
    LruHash = 9,
    LpmTrie = 11,
}

/// All parameters of a map's creation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MapShape {
    pub name: &'static str,
    pub kind: MapKind,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// Makes an empty map.
pub fn create_map(shape: &MapShape) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        kind: shape.kind as u32,
        key_size: shape.key_size,
        value_size: shape.value_size,
        max_entries: shape.max_entries,
        flags: shape.flags,
        ..MapCreate::default()
    };
    // The last octet stays zero.
    attr.name.iter_mut().take(15).zip(shape.name.bytes()).for_each(|(to, from)| *to = from);
    bpf(BPF_MAP_CREATE, &mut attr).map(owned)
}

/// The kernel's information on a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    name: [u8; 16],
}

impl MapInfo {
    /// The map was made under this name, of which the kernel keeps fifteen characters.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.split(|octet| *octet == 0).next() == name.as_bytes().chunks(15).next()
    }
}

/// Opens a map by its id, for example from a program.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = [id, 0, 0];
    bpf(BPF_MAP_GET_FD_BY_ID, &mut attr).map(owned)
}

/// Queries a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    object_info(map, &mut info)?;
    Ok(info)
}
