//! Hand-written BPF programs of a few instructions, and bpf(2) calls for them and for pinned maps.

use std::ffi::CString;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Pod;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET: libc::c_long = 7;

pub const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
pub const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;

const HELPER_TAIL_CALL: u32 = 12;
/// Not an action of our programs: the tail call has failed.
const NOT_CALLED: u32 = 99;

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

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    _rest: [u64; 12],
}

/// Argument of updates and look-ups.
#[repr(C)]
struct MapElement {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ObjectGet {
    path: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Ends the program; the action is in register 0.
pub const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

/// `struct bpf_insn`: operation, registers, offset, immediate.
const fn instruction(op: u8, to: u8, from: u8, offset: u16, number: u32) -> u64 {
    op as u64 | (to as u64) << 8 | (from as u64) << 12 | (offset as u64) << 16 | (number as u64) << 32
}

/// Loads a number into a register.
pub const fn set(to: u8, number: u32) -> u64 {
    instruction(0xb7, to, 0, 0, number)
}

/// Copies a register.
pub const fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

/// Loads four octets from an offset to a register's address.
pub const fn load_word(to: u8, from: u8, offset: u16) -> u64 {
    instruction(0x61, to, from, offset, 0)
}

/// Calls a helper: arguments in registers 1 to 5, which are lost; the result is in register 0.
pub const fn call(helper: u32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

/// Loads a map into a register; needs two instructions.
pub fn map(to: u8, map: BorrowedFd<'_>) -> [u64; 2] {
    const BPF_PSEUDO_MAP_FD: u8 = 1;
    [instruction(0x18, to, BPF_PSEUDO_MAP_FD, 0, map.as_raw_fd() as u32), 0]
}

pub fn load(prog_type: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let attr = ProgLoad {
        prog_type,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attr).map(owned)
}

/// A program of a few instructions that tail-calls another program: it makes of a test run's packet what a test run cannot
/// give.
#[derive(Debug)]
pub struct Prelude {
    program: OwnedFd,
    /// Holds a reference to the other program.
    _table: OwnedFd,
}

impl Prelude {
    /// The instructions find the context in register 1, and leave a copy of it in register 6.
    pub fn before(program: BorrowedFd<'_>, instructions: &[u64]) -> io::Result<Self> {
        let table = table_of(program)?;
        let [table_low, table_high] = map(2, table.as_fd());
        let begin = [copy(6, 1)];
        let tail_call = [copy(1, 6), table_low, table_high, set(3, 0), call(HELPER_TAIL_CALL)];
        let failed = [set(0, NOT_CALLED), EXIT];
        let program = load(BPF_PROG_TYPE_SCHED_CLS, &[&begin, instructions, &tail_call, &failed].concat())?;
        Ok(Self { program, _table: table })
    }

    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

/// A tail call table with this program as its only entry.
fn table_of(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let word = size_of::<u32>() as u32;
    let attr = MapCreate {
        map_type: BPF_MAP_TYPE_PROG_ARRAY,
        key_size: word,
        value_size: word,
        max_entries: 1,
        ..MapCreate::default()
    };
    let table = bpf(BPF_MAP_CREATE, &attr).map(owned)?;
    let (key, value) = (0u32, program.as_raw_fd() as u32);
    let attr = MapElement {
        map_fd: table.as_raw_fd() as u32,
        _pad: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, &attr)?;
    Ok(table)
}

/// A pinned map with keys `K` and values `V`, for look-ups.
#[derive(Debug)]
pub struct PinnedMap<K, V> {
    fd: OwnedFd,
    _types: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod + Default> PinnedMap<K, V> {
    /// Opens the pin. Fails if keys or values have another size.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = open_pin(path)?;
        for (name, size) in [("key_size", size_of::<K>()), ("value_size", size_of::<V>())] {
            if map_field(fd.as_raw_fd(), name)? != size as u64 {
                return Err(io::Error::other(format!("{}: {name} is not {size}", path.display())));
            }
        }
        Ok(Self { fd, _types: PhantomData })
    }

    /// `None` if the key is absent.
    pub fn look_up(&self, key: &K) -> Option<V> {
        let mut value = V::default();
        let attr = MapElement {
            map_fd: self.fd.as_raw_fd() as u32,
            _pad: 0,
            key: (&raw const *key) as u64,
            value: (&raw mut value) as u64,
            flags: 0,
        };
        bpf(BPF_MAP_LOOKUP_ELEM, &attr).ok().map(|_| value)
    }
}

/// A descriptor of a pinned object.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = ObjectGet { path: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    bpf(BPF_OBJ_GET, &attr).map(owned)
}

/// A number from the map's `fdinfo`.
fn map_field(fd: i32, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    value.ok_or_else(|| io::Error::other(format!("no {name}: not a map")))
}

fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: every attribute above has the kernel's layout for its command. It and the memory that it points to
    // outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attr, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
