//! Other kernels: Debian's 6.1 and 6.12 boot under qemu, load every program and run scenarios that this machine's kernel may
//! not be able to run; 6.1 has clsact filters instead of tcx.
//!
//! Only qemu is installed for it: kernels and tools are downloaded by apt and unpacked below `target/kernel`.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::harness::{Results, Selection, TestBinary, stream};
use super::initramfs;
use crate::file_tree::FileTree;
use crate::{bpf, debian, project};

/// A tier, and the part of its cases to run.
type Run = (&'static str, Option<&'static str>);

/// A kernel of Debian 12 or its backports, and the cases that run on it.
struct Machine {
    version: &'static str,
    runs: &'static [Run],
    /// More runs, with `--all` or by a filter: minutes each, on an emulated machine.
    more: &'static [Run],
}

const EVERY_PROGRAM: Run = ("verify", None);
/// A pod that reaches a Service with its backend on the other node, by both kinds of frontend.
const OTHER_NODE: Run = ("net", Some("routed: pod to other node"));
/// Tunnels, bonds, VRFs, ipvlan and ESP.
const DEVICES: Run = ("field", Some("of the kind"));

/// The oldest kernel also runs cleanup, because only this one has qdiscs to remove; VLANs, which are built into few
/// kernels except distributions'; and a tunnel, from which packets cannot be redirected without another Ethernet header.
const MACHINES: [Machine; 2] = [
    Machine {
        version: "6.1",
        runs: &[EVERY_PROGRAM, OTHER_NODE],
        more: &[
            ("net", Some("cleanup leaves no program")),
            ("net", Some("VLAN")),
            ("net", Some("XDP off: a backend behind a device without Ethernet header")),
            DEVICES,
        ],
    },
    Machine { version: "6.12", runs: &[EVERY_PROGRAM, OTHER_NODE], more: &[DEVICES] },
];
/// Long enough for a busy host. Beside one other virtual machine a run takes 13 minutes.
const DEADLINE_SECS: &str = "3000";
/// The binaries' scratch folder.
const SCRATCH: &str = "/svc/target";
/// Modules that the scenarios need, each a folder or a file without its suffix; the kernel's other modules are left out.
const MODULES: [&str; 14] = [
    "net",
    "lib",
    "crypto",
    "arch",
    "drivers/net/veth",
    "drivers/net/dummy",
    "drivers/net/tun",
    "drivers/net/vrf",
    "drivers/net/geneve",
    "drivers/net/macvlan",
    "drivers/net/bonding",
    "drivers/net/ipvlan",
    "drivers/net/wireguard",
    "drivers/net/vxlan",
];

/// Boots each kernel once, side by side, and counts the binaries' results; a filter selects runs by tier, part or
/// kernel.
pub fn run(binaries: &[TestBinary], svc_ctl: &Path, selection: &Selection) -> Result<Results> {
    let folder = project::target_dir().join("kernel");
    fs::create_dir_all(&folder)?;
    let booted = thread::scope(|scope| {
        let running: Vec<_> = MACHINES
            .iter()
            .map(|machine| (machine, machine.chosen(selection)))
            .filter(|(_, runs)| !runs.is_empty())
            .map(|(machine, runs)| {
                let folder = &folder;
                scope.spawn(move || {
                    let booted = boot(machine, &runs, binaries, svc_ctl, folder);
                    booted.with_context(|| format!("Linux {}", machine.version))
                })
            })
            .collect();
        let ended =
            running.into_iter().map(|machine| machine.join().unwrap_or_else(|panic| resume_unwind(panic)));
        ended.collect::<Vec<_>>()
    });
    let mut total = Results::default();
    for results in booted {
        // The other machine's results stay.
        total.append(results.unwrap_or_else(|error| Results::of_failure(format!("{error:#}"))));
    }
    Ok(total)
}

impl Machine {
    fn chosen(&self, selection: &Selection) -> Vec<Run> {
        let filter = selection.filter.as_deref();
        let more = if selection.all || filter.is_some() { self.more } else { &[] };
        let is_chosen = |(tier, cases): &&Run| {
            filter.is_none_or(|filter| {
                tier.contains(filter)
                    || cases.is_some_and(|name| name.contains(filter))
                    || filter.strip_prefix("Linux ") == Some(self.version)
            })
        };
        self.runs.iter().chain(more).filter(is_chosen).copied().collect()
    }
}

fn boot(
    machine: &Machine,
    runs: &[Run],
    binaries: &[TestBinary],
    svc_ctl: &Path,
    folder: &Path,
) -> Result<Results> {
    let version = machine.version;
    let kernel = debian::unpack(folder, &newest_kernel(version)?)?;
    let initramfs = folder.join(format!("initramfs-{version}"));
    initramfs::pack(&fill(version, runs, binaries, svc_ctl, &kernel, folder)?, &initramfs)?;

    let image = one_in(&kernel.join("boot"), "vmlinuz-")?;
    let mut qemu = Command::new("timeout");
    qemu.args([DEADLINE_SECS, "qemu-system-x86_64"]);
    // Emulated: slow, but the same everywhere, even inside a virtual machine.
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-net", "none"]);
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1"]).stdin(Stdio::null());
    eprintln!("booting {} (minutes, it is emulated)", kernel.display());
    let (status, mut results) = stream(&mut qemu, &format!("Linux {version}: "))?;
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
    for failure in &mut results.failures {
        failure.insert_str(0, &format!("Linux {version}: "));
    }
    Ok(results)
}

/// Cases of this tier.
pub fn count_cases(binaries: &[TestBinary], selection: &Selection) -> Result<u64> {
    let runs = MACHINES.iter().flat_map(|machine| machine.chosen(selection));
    let counts = runs.flat_map(|(tier, filter)| {
        binaries.iter().filter(move |binary| binary.tier == tier).map(move |binary| {
            binary.count_cases(&Selection { filter: filter.map(str::to_owned), ..Selection::default() })
        })
    });
    counts.sum()
}

/// `/init` and everything that it calls.
fn fill(
    version: &str,
    runs: &[Run],
    binaries: &[TestBinary],
    svc_ctl: &Path,
    kernel: &Path,
    folder: &Path,
) -> Result<FileTree> {
    let mut root = FileTree::default();
    for folder in ["/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/sbin", SCRATCH] {
        root.folder(folder);
    }
    for (program, package, path) in
        [("busybox", "busybox-static", "bin/busybox"), ("wg", "wireguard-tools", "usr/bin/wg")]
    {
        initramfs::add_program(&mut root, program, &debian::unpack(folder, package)?.join(path))?;
    }
    for tool in ["ip", "bridge", "tc", "nft", "ethtool"] {
        initramfs::add_program(&mut root, tool, &find(tool)?)?;
    }
    initramfs::add_program(&mut root, "svc-ctl", svc_ctl)?;
    let mut lines = String::new();
    for (tier, filter) in runs {
        let binary = binaries.iter().find(|binary| binary.tier == *tier);
        let binary = binary.with_context(|| format!("no test binary of the tier {tier}"))?;
        initramfs::add_program(&mut root, tier, &stripped(&binary.path, &format!("{tier}-{version}"))?)?;
        lines += &format!("/bin/{tier} --color never '{}'\n", filter.unwrap_or_default());
    }
    let modules = one_in(&kernel.join("lib/modules"), version)?;
    let there = Path::new("/lib/modules").join(modules.file_name().unwrap_or_default());
    uncompress(&modules)?;
    for name in MODULES {
        let place = Path::new("kernel").join(name);
        if modules.join(&place).is_dir() {
            root.tree(&there.join(&place), &modules.join(&place))?;
            continue;
        }
        let file = place.with_extension("ko");
        let content = fs::read(modules.join(&file));
        let content = content.with_context(|| format!("Linux {version} of Debian has no module {name}"))?;
        root.file(there.join(file), content);
    }
    for list in ["modules.builtin", "modules.order"] {
        root.file(there.join(list), fs::read(modules.join(list))?);
    }
    root.link("/sbin/modprobe", "/bin/busybox");
    root.program("/init", init(&lines).into_bytes());
    Ok(root)
}

/// Later kernels have their modules compressed, and busybox hands them to the kernel as they are.
fn uncompress(modules: &Path) -> Result<()> {
    let mut find = Command::new("find");
    find.arg(modules).args(["-name", "*.ko.xz", "-exec", "xz", "--decompress", "--force", "{}", "+"]);
    project::run(&mut find)
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
ln -s /proc/self/fd/0 /dev/stdin
depmod -a
modprobe tun
# Two tests at once would load it twice.
modprobe nf_tables
ip link set lo up
echo \"Linux $(uname -r)\"
{runs}reboot -f
"
    )
}

/// The distribution's newest kernel of that version, in the flavour for virtual machines.
fn newest_kernel(version: &str) -> Result<String> {
    let pattern = format!("^linux-image-{}[.].*-cloud-amd64$", version.replace('.', "[.]"));
    let output =
        Command::new("apt-cache").args(["search", "--names-only", &pattern]).output().context("apt-cache")?;
    let names = String::from_utf8_lossy(&output.stdout);
    let names = names.lines().filter_map(|line| line.split_whitespace().next());
    // linux-image-6.1.0-56-cloud-amd64, linux-image-6.12.117+deb12-cloud-amd64
    let number = |name: &str| {
        let words = name.split(['-', '.', '+']).filter_map(|word| word.parse::<u32>().ok());
        words.collect::<Vec<_>>()
    };
    let newest = names.max_by_key(|name| number(name)).map(str::to_owned);
    newest.with_context(|| {
        format!("apt knows no linux-image-{version} (a Debian 12 with its package lists fetched is needed)")
    })
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
