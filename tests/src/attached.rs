//! Asks the kernel which programs are attached where, bpftool being too old to know the newer
//! hooks; tc, as old as its filters, is asked for those.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use svc_ctl::dataplane::hooks::CGROUP_HOOKS;

use crate::command;
use crate::netns::Netns;

/// bpf(2), BPF_PROG_QUERY.
const PROG_QUERY: libc::c_long = 16;

/// `enum bpf_attach_type`: the TCX hooks of an interface (XDP shows in `ip link`).
const AT_INTERFACE: [(u32, &str); 2] = [(46, "tcx ingress"), (47, "tcx egress")];
/// The two sides of a clsact qdisc, as tc calls them.
const CLSACT_SIDES: [&str; 2] = ["ingress", "egress"];
/// The part of `union bpf_attr` that BPF_PROG_QUERY reads and writes (up to `revision`).
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    more: [u64; 4],
}

/// Every hook with a program on it, of all interfaces of a namespace: tcx links and clsact filters.
pub fn at_interfaces(netns: &Netns) -> Result<Vec<String>> {
    netns.within(|| {
        let mut found = Vec::new();
        for (index, name) in nix::net::if_::if_nameindex()?
            .iter()
            .map(|i| (i.index(), i.name().to_string_lossy().into_owned()))
        {
            for (kind, hook) in AT_INTERFACE {
                let count = match query(index, kind) {
                    // This hook exists from Linux 6.6 on; before, clsact is used instead.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => 0,
                    count => count.with_context(|| format!("{hook} of {name:?}"))?,
                };
                found.extend((count > 0).then(|| format!("{hook} of {name:?}")));
            }
            for side in CLSACT_SIDES {
                let mut tc = Command::new("tc");
                let filters = command::run(tc.args(["filter", "show", "dev", &name, side]));
                // For an interface without the qdisc, some versions of tc fail and others print nothing.
                let found_here = filters.is_ok_and(|filters| filters.contains("bpf"));
                found.extend(found_here.then(|| format!("clsact {side} of {name:?}")));
            }
        }
        Ok(found)
    })
}

/// Every hook of a cgroup itself that has a program.
pub fn at_cgroup(path: &Path) -> Result<Vec<String>> {
    ensure!(fs::metadata(path)?.is_dir(), "{} is no cgroup", path.display());
    let dir = File::open(path)?;
    let target = u32::try_from(dir.as_raw_fd())?;
    let mut found = Vec::new();
    for (hook, kind) in CGROUP_HOOKS {
        let count = query(target, kind).with_context(|| format!("{hook} of {}", path.display()))?;
        found.extend((count > 0).then(|| format!("{hook} of {}", path.display())));
    }
    Ok(found)
}

/// Number of programs at a hook of an interface (by index) or a cgroup (by descriptor).
fn query(target: u32, attach_type: u32) -> io::Result<u32> {
    let mut query = Query { target, attach_type, ..Query::default() };
    // SAFETY: the kernel accesses at most the given size, all of it initialised memory of ours; prog_ids is null, so
    // it returns only the number.
    let code = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(query.count) }
}
