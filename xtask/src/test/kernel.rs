//! The smoke test on an old kernel: Debian's 6.1 boots under qemu, loads every program and runs scenarios of the
//! namespace tier with clsact filters instead of tcx, including some that this machine's kernel may not be able to
//! run.
//!
//! Only qemu is installed for it: kernel and busybox are downloaded by apt and unpacked below `target/kernel`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::harness::{Results, Selection, TestBinary, stream};
use super::initramfs;
use crate::file_tree::FileTree;
use crate::{bpf, debian, project};

/// A tier, and the part of its cases to run.
type Run = (&'static str, Option<&'static str>);
/// Every program; a pod that reaches a Service with its backend on the other node, by both kinds of frontend;
/// cleanup, because only this kernel has qdiscs to remove; VLANs, which are built into few kernels except
/// distributions'; and a tunnel, from which packets cannot be redirected without another Ethernet header.
const RUNS: [Run; 5] = [
    ("verify", None),
    ("net", Some("routed: pod to other node")),
    ("net", Some("cleanup leaves no program")),
    ("net", Some("VLAN")),
    ("net", Some("XDP off: a backend behind a device without Ethernet header")),
];
const DEADLINE_SECS: &str = "1200";
/// The binaries' scratch folder.
const SCRATCH: &str = "/svc/target";
/// Modules that the scenarios need; the kernel's other modules are left out.
const MODULES: [&str; 7] =
    ["net", "lib", "crypto", "arch", "drivers/net/veth.ko", "drivers/net/dummy.ko", "drivers/net/tun.ko"];

/// Boots once and counts the binaries' results; a filter selects runs by name.
pub fn run(binaries: &[TestBinary], svc_ctl: &Path, filter: Option<&str>) -> Result<Results> {
    let is_chosen = |(tier, cases): &Run| {
        filter.is_none_or(|filter| tier.contains(filter) || cases.is_some_and(|name| name.contains(filter)))
    };
    let runs: Vec<Run> = RUNS.into_iter().filter(is_chosen).collect();
    let folder = project::target_dir().join("kernel");
    fs::create_dir_all(&folder)?;
    let kernel = debian::unpack(&folder, &newest_kernel()?)?;
    let busybox = debian::unpack(&folder, "busybox-static")?.join("bin/busybox");
    let initramfs = folder.join("initramfs");
    initramfs::pack(&fill(&runs, binaries, svc_ctl, &kernel, &busybox)?, &initramfs)?;

    let image = one_in(&kernel.join("boot"), "vmlinuz-")?;
    let mut qemu = Command::new("timeout");
    qemu.args([DEADLINE_SECS, "qemu-system-x86_64"]);
    // Emulated: slow, but the same everywhere, even inside a virtual machine.
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-net", "none"]);
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1"]).stdin(Stdio::null());
    eprintln!("booting {} (minutes, it is emulated)", kernel.display());
    let (status, mut results) = stream(&mut qemu, "")?;
    if results.counts.len() != runs.len() {
        let came = results.counts.len();
        results.fail(format!("{came} of {} results came out of the machine ({status})", runs.len()));
    }
    let empty = results.counts.iter().filter(|count| count.passed + count.failed == 0).count();
    if empty > 0 {
        results.fail(format!("{empty} of the runs in the machine had no case"));
    }
    let skipped: u64 = results.counts.iter_mut().map(|count| std::mem::take(&mut count.skipped)).sum();
    if skipped > 0 {
        results.fail(format!("{skipped} cases were skipped in the machine that is booted to run them"));
    }
    Ok(results)
}

/// Cases of this tier.
pub fn count_cases(binaries: &[TestBinary]) -> Result<u64> {
    let counts = RUNS.iter().flat_map(|(tier, filter)| {
        binaries.iter().filter(move |binary| binary.tier == *tier).map(move |binary| {
            binary.count_cases(&Selection { filter: filter.map(str::to_owned), all: false })
        })
    });
    counts.sum()
}

/// `/init` and everything that it calls.
fn fill(
    runs: &[Run],
    binaries: &[TestBinary],
    svc_ctl: &Path,
    kernel: &Path,
    busybox: &Path,
) -> Result<FileTree> {
    let mut root = FileTree::default();
    for folder in ["/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/sbin", SCRATCH] {
        root.folder(folder);
    }
    initramfs::add_program(&mut root, "busybox", busybox)?;
    for tool in ["ip", "tc", "nft", "ethtool"] {
        initramfs::add_program(&mut root, tool, &find(tool)?)?;
    }
    initramfs::add_program(&mut root, "svc-ctl", svc_ctl)?;
    let mut lines = String::new();
    for (tier, filter) in runs {
        let binary = binaries.iter().find(|binary| binary.tier == *tier);
        let binary = binary.with_context(|| format!("no test binary of the tier {tier}"))?;
        initramfs::add_program(&mut root, tier, &stripped(&binary.path, tier)?)?;
        lines += &format!("/bin/{tier} --color never '{}'\n", filter.unwrap_or_default());
    }
    let modules = one_in(&kernel.join("lib/modules"), "6.1")?;
    let there = Path::new("/lib/modules").join(modules.file_name().unwrap_or_default());
    for name in MODULES {
        let (from, to) = (modules.join("kernel").join(name), there.join("kernel").join(name));
        if from.is_dir() { root.tree(&to, &from)? } else { root.file(to, fs::read(&from)?) }
    }
    for list in ["modules.builtin", "modules.order"] {
        root.file(there.join(list), fs::read(modules.join(list))?);
    }
    root.link("/sbin/modprobe", "/bin/busybox");
    root.program("/init", init(&lines).into_bytes());
    Ok(root)
}

fn init(runs: &str) -> String {
    format!(
        "#!/bin/busybox sh
# Applets stay behind the real tools of the same name.
export PATH=/bin:/applets CARGO_TARGET_DIR={SCRATCH} SVC_CTL=/bin/svc-ctl SVC_PATIENCE=10 SVC_VERIFY_WITHOUT_BUDGET=1
/bin/busybox mkdir /applets
/bin/busybox --install -s /applets
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
depmod -a
modprobe tun
ip link set lo up
echo \"Linux $(uname -r)\"
{runs}reboot -f
"
    )
}

/// The distribution's newest 6.1 kernel, in the flavour for virtual machines.
fn newest_kernel() -> Result<String> {
    let pattern = "^linux-image-6[.]1[.].*-cloud-amd64$";
    let output =
        Command::new("apt-cache").args(["search", "--names-only", pattern]).output().context("apt-cache")?;
    let names = String::from_utf8_lossy(&output.stdout);
    let names = names.lines().filter_map(|line| line.split_whitespace().next());
    let number = |name: &str| name.split('-').nth(3).and_then(|number| number.parse::<u32>().ok());
    let newest = names.max_by_key(|name| number(name)).map(str::to_owned);
    newest.context("apt knows no linux-image-6.1 (a Debian 12 with its package lists fetched is needed)")
}

/// A copy without debug information, which is most of a test binary.
fn stripped(path: &Path, name: &str) -> Result<PathBuf> {
    let copy = project::target_dir().join("kernel").join(name);
    match bpf::find_tool(project::root(), "llvm-strip") {
        Some(strip) => project::run(Command::new(strip).arg("-g").arg(path).arg("-o").arg(&copy))?,
        None => fs::copy(path, &copy).map(|_| ())?,
    }
    Ok(copy)
}

fn find(tool: &str) -> Result<PathBuf> {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Path::new);
    let found = folders.iter().map(|folder| folder.join(tool)).find(|path| path.exists());
    found.with_context(|| format!("no {tool} on this system"))
}

/// The only entry of a folder with that prefix.
fn one_in(folder: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("nothing called {prefix}* in {}", folder.display())
}
