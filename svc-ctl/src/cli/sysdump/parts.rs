//! The parts of the archive, and how each is read.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::http::StatusCode;
use process_control::{ChildExt as _, Control as _};
use tokio::time::timeout;

use crate::check::nodes::ask;
use crate::cli::args::SysdumpArgs;
use crate::dataplane::features::Features;
use crate::dataplane::run_time;

/// Longest time for one part, and its largest size in octets.
const PATIENCE: Duration = Duration::from_secs(60);
const LARGEST: usize = 256 << 20;
/// Lines at the end of the log.
const LOG_LINES: usize = 10_000;
/// Words that announce a secret, in flags and in the log.
const SECRETS: [&str; 4] = ["password", "passwd", "token", "secret"];

/// A file of the archive.
pub struct Part {
    pub name: String,
    pub source: Source,
}

pub enum Source {
    /// The output of this program with other arguments.
    Own(Vec<OsString>),
    /// The output of a program of the host.
    Tool(&'static str, &'static [&'static str]),
    /// Files of the host, one after the other.
    Files(&'static [&'static str]),
    /// The end of a log.
    Log(PathBuf),
    /// A page of the daemon.
    Page(SocketAddr, &'static str),
    /// The pinned programs: runs and time.
    Programs(PathBuf),
    /// Features of this kernel that svc uses.
    Features,
}

/// Programs of the host, and the arguments for each file.
const TOOLS: [(&str, &str, &[&str]); 12] = [
    ("ip/link.txt", "ip", &["-d", "-s", "link"]),
    ("ip/address.txt", "ip", &["address"]),
    ("ip/rule4.txt", "ip", &["-4", "rule"]),
    ("ip/rule6.txt", "ip", &["-6", "rule"]),
    ("ip/route4.txt", "ip", &["-4", "route", "show", "table", "all"]),
    ("ip/route6.txt", "ip", &["-6", "route", "show", "table", "all"]),
    ("ip/neighbor.txt", "ip", &["neighbor"]),
    ("ip/netns.txt", "ip", &["netns"]),
    ("nft.txt", "nft", &["list", "ruleset"]),
    ("iptables.txt", "iptables-save", &["-c"]),
    ("bpftool/net.txt", "bpftool", &["net"]),
    ("bpftool/cgroup.txt", "bpftool", &["cgroup", "tree"]),
];

/// Commands of svc-ctl itself that read the pins and the run directory.
const OWN: [(&str, &[&str]); 8] = [
    ("status.json", &["status", "-o", "json"]),
    ("complaints.json", &["status", "--complaints", "-o", "json"]),
    ("check.json", &["check", "-o", "json"]),
    ("services.json", &["get", "services", "-o", "json"]),
    ("backends.json", &["get", "backends", "-o", "json"]),
    ("flows.json", &["get", "flows", "-o", "json"]),
    ("affinity.json", &["get", "affinity", "-o", "json"]),
    ("diff.json", &["get", "services", "--diff", "-o", "json"]),
];

pub fn parts(args: &SysdumpArgs) -> Vec<Part> {
    let part = |name: &str, source| Part { name: name.to_owned(), source };
    let mut parts: Vec<Part> = Vec::new();
    for (name, command) in OWN {
        let mut command: Vec<OsString> = command.iter().map(Into::into).collect();
        command.extend(["--pin-dir".into(), args.pins.pin_dir.clone().into()]);
        command.extend(["--run-dir".into(), args.run_dir.run_dir.clone().into()]);
        parts.push(part(name, Source::Own(command)));
    }
    parts.push(part("version.txt", Source::Own(vec!["--version".into()])));
    for (name, path) in [("configz.json", "/configz"), ("flagz.txt", "/flagz"), ("metrics.txt", "/metrics")] {
        parts.push(part(name, Source::Page(args.metrics_address, path)));
    }
    parts.push(part("programs.txt", Source::Programs(args.pins.pin_dir.clone())));
    parts.push(part("features.json", Source::Features));
    parts.push(part(
        "kernel.txt",
        Source::Files(&["/proc/version", "/proc/cmdline", "/proc/modules", "/proc/mounts"]),
    ));
    const SETTINGS: &[&str] = &[
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv6/conf/all/forwarding",
        "/proc/sys/net/ipv4/conf/all/rp_filter",
        "/proc/sys/net/ipv4/ip_local_port_range",
        "/proc/sys/net/core/bpf_jit_enable",
        "/proc/sys/net/netfilter/nf_conntrack_count",
        "/proc/sys/net/netfilter/nf_conntrack_max",
    ];
    parts.push(part("settings.txt", Source::Files(SETTINGS)));
    parts.extend(TOOLS.map(|(name, tool, arguments)| part(name, Source::Tool(tool, arguments))));
    parts.extend(args.log.clone().map(|log| part("log.txt", Source::Log(log))));
    parts
}

impl Source {
    pub fn read(self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Own(arguments) => run(Command::new("/proc/self/exe").args(arguments)),
            Self::Tool(tool, arguments) => run(Command::new(tool).args(arguments)),
            Self::Files(paths) => files(paths),
            Self::Log(path) => {
                let octets = std::fs::read(&path).with_context(|| format!("--log {}", path.display()))?;
                let text = String::from_utf8_lossy(&octets);
                let lines: Vec<&str> = text.lines().collect();
                let first = lines.len().saturating_sub(LOG_LINES);
                Ok(without_secrets(lines.get(first..).unwrap_or_default()).into())
            }
            Self::Page(address, path) => {
                let page = page(address, path).with_context(|| format!("asking http://{address}{path}"))?;
                let lines: Vec<&str> = page.lines().collect();
                Ok(without_secrets(&lines).into())
            }
            Self::Programs(pin_dir) => {
                let all = run_time::read(&pin_dir)?;
                let line = |(name, run): (&String, &run_time::RunTime)| {
                    format!("{name}: {} measured runs, {:?}\n", run.count, run.time)
                };
                Ok(all.iter().map(line).collect::<String>().into())
            }
            Self::Features => Ok(serde_json::to_vec_pretty(&Features::detect())?),
        }
    }
}

/// The output of a command. 3 is the exit code of `get --diff` if something differs, and `check` has 1 for what it finds: output counts
/// more than the code.
fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("starting {name}"))?;
    let ended = child.controlled_with_output().time_limit(PATIENCE).terminate_for_timeout().wait();
    let Some(output) = ended.with_context(|| format!("waiting for {name}"))? else {
        bail!("{name} has not ended within {} s", PATIENCE.as_secs());
    };
    ensure!(output.stdout.len() <= LARGEST, "more than {LARGEST} octets");
    if output.stdout.is_empty() && !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// The files that can be read, each under its path.
fn files(paths: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(format!("# {path}\n").bytes());
        match std::fs::read(path) {
            Ok(octets) => all.extend(octets),
            Err(error) => all.extend(format!("{error}\n").bytes()),
        }
    }
    Ok(all)
}

/// The body of a page of the daemon.
fn page(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { timeout(PATIENCE, ask::page(address, path, LARGEST)).await });
    let (status, body) = answer.with_context(|| format!("no answer within {} s", PATIENCE.as_secs()))??;
    ensure!(status == StatusCode::OK, "the answer is {status}");
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The lines, without what follows a word that announces a secret.
fn without_secrets(lines: &[&str]) -> String {
    let line = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        let end = SECRETS.iter().filter_map(|word| lower.find(word).map(|at| at + word.len())).min();
        match end.and_then(|end| line.get(..end)) {
            Some(kept) => format!("{kept} [removed]\n"),
            None => format!("{line}\n"),
        }
    };
    lines.iter().map(line).collect()
}
