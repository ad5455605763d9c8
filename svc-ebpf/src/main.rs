//! Entry points of the kernel programs.
#![no_std]
#![no_main]

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Never reached: a reachable panic does not load.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Lets every packet through.
#[aya_ebpf::macros::xdp]
pub fn svc_xdp(_ctx: aya_ebpf::programs::XdpContext) -> u32 {
    2
}
