//! Arrays of the kernel as memory (`BPF_F_MMAPABLE`): no system call per entry.
//!
//! One window of the array is mapped at a time. The kernel counts every page of a mapping as this process's memory,
//! so mapping the whole array would cost as much as a copy.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sys;

/// Octets of a window: a multiple of every page size and of every stride except 24 octets. Entries of that stride are
/// therefore written word by word.
const WINDOW: usize = 1 << 20;
const WORD: usize = 8;

/// An array map whose entries are `T`, with one window of it in memory.
pub struct MappedArray<T> {
    fd: OwnedFd,
    entries: u32,
    /// Octets from one entry to the next: the kernel rounds them up to words.
    stride: usize,
    window: Option<Window>,
    _entry: PhantomData<T>,
}

impl MappedArray<u64> {
    /// Sets bits of an entry atomically: programs write it, too. Only if one is missing: most are set already.
    pub fn set_bits(&mut self, index: u32, bits: u64) -> io::Result<()> {
        let at = self.first_word(index)?;
        let word = self.word(at)?;
        if word.load(Ordering::Relaxed) & bits != bits {
            word.fetch_or(bits, Ordering::Release);
        }
        Ok(())
    }
}

impl<T: aya::Pod> MappedArray<T> {
    /// `None` if the map is not an array of such entries.
    pub fn new(fd: OwnedFd) -> io::Result<Option<Self>> {
        let info = sys::map_info(fd.as_fd())?;
        let is_ours = info.kind == sys::MapKind::Array as u32 && info.value_size as usize == size_of::<T>();
        let stride = size_of::<T>().next_multiple_of(WORD);
        Ok(is_ours.then_some(Self {
            fd,
            entries: info.max_entries,
            stride,
            window: None,
            _entry: PhantomData,
        }))
    }

    /// The words of the only value of an array as entries. `None` if it is no such array.
    pub fn words_of_one(fd: OwnedFd) -> io::Result<Option<Self>> {
        let info = sys::map_info(fd.as_fd())?;
        let is_ours =
            info.kind == sys::MapKind::Array as u32 && info.max_entries == 1 && size_of::<T>() == WORD;
        let entries = info.value_size / WORD as u32;
        Ok(is_ours.then_some(Self { fd, entries, stride: WORD, window: None, _entry: PhantomData }))
    }

    /// The same array with a window of its own.
    pub fn try_clone(&self) -> io::Result<Self> {
        let fd = self.fd.try_clone()?;
        Ok(Self { fd, entries: self.entries, stride: self.stride, window: None, _entry: PhantomData })
    }

    /// Number of entries.
    pub const fn len(&self) -> u32 {
        self.entries
    }

    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Writes an entry. Only words that differ are written, each as a whole: a reader sees each word old or new.
    pub fn set(&mut self, index: u32, value: &T) -> io::Result<()> {
        // SAFETY: `T` is plain data without padding.
        let octets = unsafe { std::slice::from_raw_parts((value as *const T).cast::<u8>(), size_of::<T>()) };
        let first = self.first_word(index)?;
        for (at, chunk) in (first..).zip(octets.chunks(WORD)) {
            let mut word = [0; WORD];
            if let Some(part) = word.get_mut(..chunk.len()) {
                part.copy_from_slice(chunk);
            }
            let (place, word) = (self.word(at)?, u64::from_ne_bytes(word));
            if place.load(Ordering::Relaxed) != word {
                place.store(word, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Reads an entry; an index beyond the array is an error.
    pub fn get(&mut self, index: u32) -> io::Result<T> {
        // SAFETY: `T` is plain data, so every pattern of octets is a value.
        let mut value: T = unsafe { std::mem::zeroed() };
        // SAFETY: `T` is plain data without padding, and any octets may be written to it.
        let octets = unsafe { std::slice::from_raw_parts_mut((&raw mut value).cast::<u8>(), size_of::<T>()) };
        let first = self.first_word(index)?;
        for (at, chunk) in (first..).zip(octets.chunks_mut(WORD)) {
            let word = self.word(at)?.load(Ordering::Acquire).to_ne_bytes();
            if let Some(part) = word.get(..chunk.len()) {
                chunk.copy_from_slice(part);
            }
        }
        Ok(value)
    }

    /// The kernel's id of the map.
    pub fn id(&self) -> io::Result<u32> {
        Ok(sys::map_info(self.fd.as_fd())?.id)
    }

    fn first_word(&self, index: u32) -> io::Result<usize> {
        if index < self.entries {
            return Ok(index as usize * (self.stride / WORD));
        }
        let text = format!("entry {index} is beyond the {} of the table", self.entries);
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    fn word(&mut self, at: usize) -> io::Result<&AtomicU64> {
        let start = at * WORD / WINDOW * WINDOW;
        if self.window.as_ref().is_none_or(|window| window.start != start) {
            self.window = None;
            let octets = self.entries as usize * self.stride;
            self.window =
                Some(Window::new(self.fd.as_fd(), start, WINDOW.min(octets.saturating_sub(start)))?);
        }
        let window = self.window.as_ref().and_then(|window| window.word(at * WORD - start));
        window.ok_or_else(|| io::Error::other("beyond the mapped window"))
    }
}

impl<T> AsFd for MappedArray<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A mapped part of an array.
struct Window {
    start: usize,
    memory: NonNull<libc::c_void>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is accessed only by atomic words.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    fn new(fd: BorrowedFd<'_>, start: usize, len: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address; the descriptor is open.
        let memory = unsafe {
            libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd.as_raw_fd(), start as i64)
        };
        match NonNull::new(memory) {
            Some(memory) if memory.as_ptr() != libc::MAP_FAILED => Ok(Self { start, memory, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        // SAFETY: the word is within the mapping, aligned, and accessed only atomically.
        (offset + WORD <= self.len)
            .then(|| unsafe { &*self.memory.as_ptr().byte_add(offset).cast::<AtomicU64>() })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: `new` made this mapping, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.memory.as_ptr(), self.len) };
    }
}
