//! Instructions that the compiler does not make by itself: `core` has no atomics for BPF.

use core::arch::asm;

/// Increments atomically: a packet's hook can interrupt a socket hook on the same CPU, and another socket can preempt
/// it.
#[inline(always)]
pub fn increment(count: &mut u64) {
    // SAFETY: a valid pointer to an aligned word of a map.
    unsafe {
        asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) &raw mut *count, in(reg) 1_u64, options(nostack))
    };
}

/// Sets bits of a word atomically.
///
/// # Safety
///
/// A valid pointer to an aligned word of a map.
#[inline(always)]
pub unsafe fn set_bits(word: *mut u64, bits: u64) {
    // SAFETY: as promised by the caller.
    unsafe { asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) word, in(reg) bits, options(nostack)) };
}

/// Hides a number from the compiler, so that it keeps checks that only the verifier needs.
#[inline(always)]
pub fn opaque(mut number: u64) -> u64 {
    // An instruction that does nothing. Without one the lines of the source before and after it would begin at the same
    // instruction, and the kernel refuses such line information.
    // SAFETY: only the register is written.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(nomem, nostack)) };
    number
}
