//! The checks that CI runs before tests: formatting, lints, the import table.

use anyhow::Result;

use crate::{project, setup};

pub fn main() -> Result<()> {
    setup::for_building()?;
    project::run(project::cargo().args(["fmt", "--all", "--check"]))?;
    // svc-ebpf compiles for BPF only; rustc's own warnings for it are shown when it is built.
    let host = ["clippy", "--locked", "--workspace", "--exclude", "svc-ebpf", "--all-targets"];
    project::run(project::cargo().args(host).args(["--", "--deny", "warnings"]))?;
    project::run(project::cargo().args([
        "test",
        "--locked",
        "--package",
        "svc-ctl",
        "--test",
        "architecture",
    ]))
}
