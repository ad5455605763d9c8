//! The real svc-ctl on a node: finds, starts, queries, kills and cleans it up.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use svc_common::abi::{Lease, names};
use svc_ctl::dataplane::pins::Pins;

use crate::bpf::PinnedMap;
use crate::bpffs::BpfFs;
use crate::topology::Node;
use crate::{command, run_name, wait};

/// On a busy machine: the lease is renewed each second.
const RENEWAL_LIMIT: Duration = Duration::from_secs(30);

/// Flags that differ between tests.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// `auto`, `native`, `generic` or `off`.
    pub xdp: &'static str,
    /// `--pod-sockets on`: socket hooks serve pods. Otherwise the default: tcx programs serve them while the daemon
    /// runs.
    pub pod_sockets: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self { xdp: "auto", pod_sockets: false }
    }
}

/// Source of Services for a daemon, and the name of its node.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder; the node's name is that of the topology.
    Manifests(PathBuf),
    /// An API server; `link` is the node's interface towards it, which is not served.
    Kubernetes { kubeconfig: PathBuf, node_name: String, link: String },
}

impl Source {
    /// Arguments of `svc-ctl run` for it.
    fn arguments(&self, node: &Node) -> Vec<OsString> {
        let (source, name, more) = match self {
            Self::Manifests(dir) => (format!("manifests:{}", dir.display()), node.name(), Vec::new()),
            Self::Kubernetes { kubeconfig, node_name, link } => {
                let more =
                    ["--kubeconfig".into(), kubeconfig.into(), "--exclude-interface".into(), link.into()];
                ("kubernetes".to_owned(), node_name.as_str(), more.to_vec())
            }
        };
        let first = ["--source".into(), source.into(), "--hostname-override".into(), name.into()];
        first.into_iter().chain(more).collect()
    }
}

/// A node's daemon, running or not. Its pins outlive it until [`Daemon::cleanup`].
#[derive(Debug)]
pub struct Daemon {
    /// The program to be started next.
    pub binary: PathBuf,
    pub source: Source,
    pins: PathBuf,
    run: PathBuf,
    flags: Flags,
    /// Additional flags of `svc-ctl run`.
    pub more: Vec<String>,
    child: Option<Child>,
}

impl Daemon {
    pub fn new(node: &Node, bpffs: &BpfFs, dir: &Path, source: Source, flags: Flags) -> Result<Self> {
        let (pins, run) = (bpffs.path().join(node.name()), dir.join(node.name()));
        fs::create_dir_all(&pins).with_context(|| format!("make {}", pins.display()))?;
        fs::create_dir_all(&run).with_context(|| format!("make {}", run.display()))?;
        Ok(Self { binary: find()?, source, pins, run, flags, more: Vec::new(), child: None })
    }

    pub fn pins(&self) -> &Path {
        &self.pins
    }

    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }

    pub fn start(&mut self, node: &Node) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path()).context("open the log")?;
        let mut command = node.host.command(&self.binary)?;
        command.arg("run").args(self.source.arguments(node)).arg("--pin-dir").arg(&self.pins);
        command.arg("--run-dir").arg(&self.run).arg("--cgroup").arg(node.cgroup());
        command.args(["--xdp", self.flags.xdp]).args(&self.more);
        if self.flags.pod_sockets {
            command.args(["--pod-sockets", "on"]);
        }
        // The image has no CA certificates, and hosts need not have any.
        command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.binary.display()))?);
        Ok(())
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().context("kill svc-ctl")?;
        child.wait().context("wait for svc-ctl")?;
        // The old status file must not be mistaken for the next daemon's.
        let _ = fs::remove_file(self.run.join("status.json"));
        Ok(())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends a signal that does not end it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("not started")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal).with_context(|| format!("send {signal}"))
    }

    /// Sends SIGTERM; the exit must be soon and successful.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM).context("terminate svc-ctl")?;
        let ended =
            wait::until("svc-ctl ends after SIGTERM", Duration::from_secs(5), || Ok(child.try_wait()?));
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended.map(|_| ())
    }

    /// It ended by itself.
    pub fn ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|exit| exit.is_some()))
    }

    /// The exit code, once it has ended by itself.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        let child = self.child.as_mut().context("not started")?;
        Ok(child.try_wait()?.and_then(|exit| exit.code()))
    }

    /// Waits until the daemon has said twice that every hook has its program: pods that have dialled are left to the programs
    /// at their interfaces from then on, also without the daemon.
    pub fn await_renewals(&self) -> Result<()> {
        let lease: PinnedMap<u32, u32> = PinnedMap::open(&Pins::existing(&self.pins)?.map(names::LEASE))?;
        let renewed = || lease.look_up(&(Lease::Renewed as u32)).context("LEASE has no such entry");
        let then = renewed()?;
        wait::until_true("the daemon has renewed its lease twice", RENEWAL_LIMIT, || {
            Ok(renewed()?.wrapping_sub(then) > 1)
        })
    }

    /// The current status file.
    pub fn status(&self) -> Result<Value> {
        let text = fs::read_to_string(self.run.join("status.json")).context("read status.json")?;
        serde_json::from_str(&text).context("parse status.json")
    }

    /// The complaints in the status file: the node's own, and the first others.
    pub fn complaints(&self) -> Result<Vec<Value>> {
        let first = &self.status()?["complaints"]["first"];
        first.as_array().cloned().with_context(|| format!("the status names no complaints: {first}"))
    }

    /// A command of svc-ctl beside this daemon.
    pub fn command(&self, node: &Node, arguments: &[&str]) -> Result<Command> {
        let mut command = node.host.command(&self.binary)?;
        command.args(arguments).arg("--run-dir").arg(&self.run).arg("--pin-dir").arg(&self.pins);
        Ok(command)
    }

    /// `svc-ctl get WHAT -o json`.
    pub fn get(&self, node: &Node, what: &str) -> Result<Value> {
        let mut command = node.host.command(&self.binary)?;
        command.args(["get", what, "-o", "json", "--run-dir"]).arg(&self.run);
        let text = command::run(command.arg("--pin-dir").arg(&self.pins))?;
        serde_json::from_str(&text).with_context(|| format!("parse: {text}"))
    }

    /// `svc-ctl why ARGUMENTS -o json`: exit code and answer. An error of the command itself is an error. One at a time: in an
    /// emulated machine the first one of a node loads its programs for longer than another one waits.
    pub fn why(&self, node: &Node, arguments: &[&str]) -> Result<(i32, Value)> {
        static ASKS: Mutex<()> = Mutex::new(());
        let _alone = ASKS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = node.host.command(&self.binary)?;
        command.arg("why").args(arguments).args(["-o", "json", "--run-dir"]).arg(&self.run);
        let output = command.arg("--pin-dir").arg(&self.pins).output().context("start svc-ctl why")?;
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let answer = serde_json::from_str(&text).with_context(|| format!("{arguments:?}: {errors}{text}"))?;
        Ok((output.status.code().context("svc-ctl why was killed")?, answer))
    }

    /// `svc-ctl status -o json`.
    pub fn ask_status(&self, node: &Node) -> Result<Value> {
        let mut command = node.host.command(&self.binary)?;
        command.args(["status", "-o", "json", "--run-dir"]).arg(&self.run).arg("--pin-dir").arg(&self.pins);
        Ok(serde_json::from_str(&command::run(&mut command)?)?)
    }

    /// Another daemon with the same pins and its own run directory.
    pub fn rival(&self, run_dir: &Path) -> Result<Self> {
        fs::create_dir_all(run_dir).with_context(|| format!("make {}", run_dir.display()))?;
        let (binary, source, pins) = (self.binary.clone(), self.source.clone(), self.pins.clone());
        let (flags, more) = (self.flags, self.more.clone());
        Ok(Self { binary, source, pins, run: run_dir.into(), flags, more, child: None })
    }

    pub fn cleanup(&self, node: &Node) -> Result<()> {
        self.cleanup_of(node, &self.pins)
    }

    /// Runs `svc-ctl cleanup` for a folder with any contents.
    pub fn cleanup_of(&self, node: &Node, pin_dir: &Path) -> Result<()> {
        let mut command = node.host.command(&self.binary)?;
        command.args(["cleanup", "--pin-dir"]).arg(pin_dir).arg("--cgroup").arg(node.cgroup());
        command.arg("--run-dir").arg(&self.run);
        command::run(&mut command).map(|_| ())
    }

    pub fn log_path(&self) -> PathBuf {
        self.run.join("svc-ctl.log")
    }

    /// The last lines of the log.
    pub fn log(&self) -> String {
        command::last_lines(&self.log_path())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// `SVC_CTL_NEXT`: svc-ctl with tables of the next ABI number.
pub fn find_next() -> Result<PathBuf> {
    let path = env::var_os("SVC_CTL_NEXT");
    path.map(Into::into).context("SVC_CTL_NEXT is not set: run `cargo xtask test upgrade`")
}

/// `SVC_CTL`, or the binary that was built beside the running program.
pub fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SVC_CTL") {
        return Ok(path.into());
    }
    let program = env::current_exe().context("find the running program")?;
    let beside = program.ancestors().skip(1).take(2).map(Path::to_path_buf);
    let target = run_name::workspace_dir().join("target");
    let built = beside.chain([target.join("release"), target.join("debug")]);
    let mut candidates = built.map(|dir| dir.join("svc-ctl"));
    candidates.find(|path| path.is_file()).context("svc-ctl is not built: run cargo build, or set SVC_CTL")
}
