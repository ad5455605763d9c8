//! The images of Kubernetes' own tests: agnhost with the tools it calls, busybox, and one that reproduces a bug.
//! Their programs come from Go modules and from packages of the distribution.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::cluster::one_program;
use super::debian_tree::add_program;
use super::oci::Image;
use crate::components::{self, Programs};
use crate::file_tree::{FileTree, read};
use crate::{cache, debian};

/// Image names in the tests of the locked release.
const BUSYBOX: [&str; 2] = ["busybox:1.37.0-1", "busybox:1.36.1-1"];
/// Names of agnhost, and of images for which it stands in: the tests use only their shell with network tools, or just run
/// them.
const AGNHOST: [&str; 5] =
    ["agnhost:2.63.0", "agnhost:2.55", "glibc-dns-testing:2.0.0", "nginx:1.15-4", "nginx:1.27-0"];
const IPTABLES: &str = "registry.k8s.io/build-image/distroless-iptables:v0.9.6";
const REGRESSION: [&str; 1] = ["regression-issue-74839:1.4"];

/// Tools that agnhost calls, from packages of the distribution: path there, path in the image.
const TOOLS: [(&str, &str); 10] = [
    ("bin/bash", "/bin/bash"),
    ("usr/bin/curl", "/usr/bin/curl"),
    ("usr/bin/dig", "/usr/bin/dig"),
    ("usr/bin/getent", "/usr/bin/getent"),
    ("bin/ip", "/usr/sbin/ip"),
    ("usr/bin/iperf", "/usr/bin/iperf"),
    ("bin/nc.openbsd", "/bin/nc"),
    ("bin/ss", "/usr/bin/ss"),
    ("usr/bin/wget", "/bin/wget"),
    ("usr/sbin/conntrack", "/usr/sbin/conntrack"),
];
/// The packages of these tools.
const PACKAGES: [&str; 10] = [
    "bash",
    "bind9-dnsutils",
    "busybox",
    "conntrack",
    "curl",
    "iperf",
    "iproute2",
    "libc-bin",
    "netcat-openbsd",
    "wget",
];

pub(super) fn images(programs: &Programs) -> Result<[(&'static str, Image); 3]> {
    let packages = debian::unpack_all(&cache::dir()?.join("debian"), "agnhost-tools", &PACKAGES)?;
    let regression = read(programs.get("regression-issue-74839")?)?;
    Ok([
        ("agnhost", agnhost(&packages, programs)?),
        ("busybox", busybox(&packages)?),
        ("regression", one_program(e2e(&REGRESSION), "/regression-issue-74839", regression)),
    ])
}

fn e2e(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("registry.k8s.io/e2e-test-images/{name}")).collect()
}

fn busybox(packages: &Path) -> Result<Image> {
    let mut root = userland(packages)?;
    // busybox's own wget crashes with -T.
    add_program(&mut root, packages, "usr/bin/wget", "/bin/wget")?;
    Ok(Image { names: e2e(&BUSYBOX), root, command: vec!["sh"], ..Image::default() })
}

fn agnhost(packages: &Path, programs: &Programs) -> Result<Image> {
    let mut root = userland(packages)?;
    for (from, to) in TOOLS {
        add_program(&mut root, packages, from, to)?;
    }
    root.link("/bin/ip", "/usr/sbin/ip");
    root.link("/usr/local/bin/iperf", "/usr/bin/iperf");
    root.program("/agnhost", read(programs.get("agnhost")?)?);
    root.link("/agnhost-2", "agnhost");
    root.program("/coredns", read(programs.get("coredns")?)?);
    for folder in ["/uploads", "/var/registry"] {
        root.folder(folder);
    }
    let source = components::source(components::E2E.upstream, &components::E2E)?;
    for name in ["localhost.crt", "localhost.key"] {
        root.file(format!("/{name}"), read(&source.join("test/images/agnhost/porter").join(name))?);
    }
    let mut names = e2e(&AGNHOST);
    names.push(IPTABLES.into());
    Ok(Image { names, root, entrypoint: vec!["/agnhost"], command: vec!["pause"], ..Image::default() })
}

/// A small system: folders, users, busybox under all its names.
fn userland(packages: &Path) -> Result<FileTree> {
    let mut root = FileTree::default();
    root.folder_with_mode("/tmp", 0o1777);
    for folder in
        ["/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/var/log", "/var/run", "/var/tmp"]
    {
        root.folder(folder);
    }
    root.file("/etc/passwd", PASSWD.into());
    root.file("/etc/group", GROUP.into());
    root.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".into());
    let busybox = packages.join("bin/busybox");
    let output =
        Command::new(&busybox).arg("--list").output().with_context(|| busybox.display().to_string())?;
    ensure!(output.status.success(), "{} --list: {}", busybox.display(), output.status);
    for applet in String::from_utf8_lossy(&output.stdout).lines() {
        root.link(Path::new("/bin").join(applet), "busybox");
    }
    add_program(&mut root, packages, "bin/busybox", "/bin/busybox")?;
    Ok(root)
}

/// The users that Kubernetes' tests expect in these images.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
user-defined-in-image:x:1000:1000::/home:/bin/sh
";
const GROUP: &str = "root:x:0:
nogroup:x:65534:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
";
