//! Turns Ctrl-C and SIGTERM into a flag, so that every guard still cleans up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

pub(super) fn catch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which a signal may interrupt anywhere.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

pub(super) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Waits for the flag.
pub(super) fn wait() {
    while !asked() {
        thread::park_timeout(Duration::from_millis(200));
    }
}
