//! `svc-ctl`: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    svc_ctl::memory::bound_heaps();
    svc_ctl::cli::main()
}
