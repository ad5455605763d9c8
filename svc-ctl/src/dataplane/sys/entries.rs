//! Entries of maps, one by one and in batches. Kinds of maps without batches are read and written one by one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bpf;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

/// Entries per batch, at first.
const BATCH: usize = 1024;

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
struct Element {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map whose keys are `K` and whose values are `V`, for writing in batches.
#[derive(Debug)]
pub struct EntryMap<K, V> {
    fd: OwnedFd,
    _entries: std::marker::PhantomData<(K, V)>,
}

impl<K: aya::Pod, V: aya::Pod> EntryMap<K, V> {
    /// `None` if the map has keys or values of another size.
    pub fn new(fd: OwnedFd) -> io::Result<Option<Self>> {
        let info = super::map_info(fd.as_fd())?;
        let is_ours = (info.key_size as usize, info.value_size as usize) == (size_of::<K>(), size_of::<V>());
        Ok(is_ours.then_some(Self { fd, _entries: std::marker::PhantomData }))
    }

    /// Inserts or replaces every entry. `failed` gets the index and error of each entry that the kernel refuses.
    /// `flags` are those of `BPF_MAP_UPDATE_ELEM`.
    pub fn update(&self, keys: &[K], values: &[V], flags: u64, mut failed: impl FnMut(usize, io::Error)) {
        let count = keys.len().min(values.len());
        self.each_batch(
            count,
            BPF_MAP_UPDATE_BATCH,
            |from| (pointer(keys, from), pointer(values, from)),
            |at| self.element(BPF_MAP_UPDATE_ELEM, pointer(keys, at), pointer(values, at), flags),
            flags,
            &mut failed,
        );
    }

    /// Inserts or replaces one entry.
    pub fn insert(&self, key: &K, value: &V, flags: u64) -> io::Result<()> {
        self.element(BPF_MAP_UPDATE_ELEM, (key as *const K) as u64, (value as *const V) as u64, flags)
    }

    /// Removes every entry. An absent one is no failure.
    pub fn delete(&self, keys: &[K], mut failed: impl FnMut(usize, io::Error)) {
        let is_failure = |err: &io::Error| err.kind() != io::ErrorKind::NotFound;
        self.each_batch(
            keys.len(),
            BPF_MAP_DELETE_BATCH,
            |from| (pointer(keys, from), 0),
            |at| self.element(BPF_MAP_DELETE_ELEM, pointer(keys, at), 0, 0),
            0,
            &mut |at, err| {
                if is_failure(&err) {
                    failed(at, err);
                }
            },
        );
    }

    /// Writes `count` entries in batches. If a batch stops, the failing entry is tried alone, and the batch continues
    /// behind it.
    fn each_batch(
        &self,
        count: usize,
        command: libc::c_long,
        pointers: impl Fn(usize) -> (u64, u64),
        single: impl Fn(usize) -> io::Result<()>,
        elem_flags: u64,
        failed: &mut impl FnMut(usize, io::Error),
    ) {
        let (mut at, mut has_batches) = (0, true);
        while at < count {
            if has_batches && count - at > 1 {
                let (keys, values) = pointers(at);
                let wanted = u32::try_from(count - at).unwrap_or(u32::MAX);
                let map_fd = self.fd.as_raw_fd() as u32;
                let mut attr = Batch { keys, values, count: wanted, map_fd, elem_flags, ..Batch::default() };
                match bpf(command, &mut attr) {
                    Ok(_) => return,
                    Err(err) => {
                        // If the command itself or its first entry fails, the count is unchanged or zero.
                        let done = if attr.count < wanted { attr.count as usize } else { 0 };
                        has_batches = !is_unsupported(&err);
                        at += done;
                    }
                }
            }
            if let Err(err) = single(at) {
                failed(at, err);
            }
            at += 1;
        }
    }

    fn element(&self, command: libc::c_long, key: u64, value: u64, flags: u64) -> io::Result<()> {
        let mut attr = Element { map_fd: self.fd.as_raw_fd() as u32, _pad: 0, key, value, flags };
        bpf(command, &mut attr).map(drop)
    }

    /// Reads every entry; see [`each_entry`].
    pub fn each(&self, mut each: impl FnMut(K, V)) -> io::Result<()> {
        each_entry(self.fd.as_fd(), (size_of::<K>(), size_of::<V>()), |key, value| {
            if let (Some(key), Some(value)) = (super::read(key), super::read(value)) {
                each(key, value);
            }
        })
    }
}

impl<K, V> AsFd for EntryMap<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// ENOTSUPP, which libc does not define, and EINVAL mean that this kind of map has no batches.
fn is_unsupported(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(524 | libc::EINVAL | libc::EOPNOTSUPP))
}

/// Address of an entry, as the kernel expects it.
fn pointer<T>(list: &[T], at: usize) -> u64 {
    list.get(at..).map_or(0, |rest| rest.as_ptr() as u64)
}

/// Reads a map with keys and values of these sizes in batches. The kernel walks a hash by buckets, so concurrent
/// changes do not disturb it.
pub fn each_entry(
    map: BorrowedFd<'_>,
    (key_size, value_size): (usize, usize),
    mut each: impl FnMut(&[u8], &[u8]),
) -> io::Result<()> {
    let mut size = BATCH;
    let (mut keys, mut values) = (vec![0u8; size * key_size], vec![0u8; size * value_size]);
    // The position in the table: four octets for hashes, a key for others.
    let (mut place, mut is_first) = ([0u8; 64], true);
    loop {
        let before = place;
        let mut attr = Batch {
            in_batch: if is_first { 0 } else { before.as_ptr() as u64 },
            out_batch: place.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: size as u32,
            map_fd: map.as_raw_fd() as u32,
            ..Batch::default()
        };
        let is_end = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
            Ok(_) => false,
            Err(err) => match err.raw_os_error() {
                Some(libc::ENOENT) => true,
                // A bucket has more entries than the batch.
                Some(libc::ENOSPC) => {
                    size *= 2;
                    keys.resize(size * key_size, 0);
                    values.resize(size * value_size, 0);
                    place = before;
                    continue;
                }
                _ => return Err(err),
            },
        };
        let entries = keys.chunks_exact(key_size).zip(values.chunks_exact(value_size));
        for (key, value) in entries.take(attr.count as usize) {
            each(key, value);
        }
        if is_end {
            return Ok(());
        }
        is_first = false;
    }
}

/// Inserts or replaces an entry, as octets.
pub fn update_entry(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
    let mut attr = Element { map_fd: map.as_raw_fd() as u32, _pad: 0, key, value, flags: 0 };
    bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Reads an entry into `value`, which must have the value's length.
pub fn look_up_entry(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let (key, value) = (key.as_ptr() as u64, value.as_mut_ptr() as u64);
    let mut attr = Element { map_fd: map.as_raw_fd() as u32, _pad: 0, key, value, flags: 0 };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr).map(drop)
}
