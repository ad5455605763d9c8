//! etcd, API server, controller manager and scheduler in the hub: starts them, waits for them, injects faults,
//! removes them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::addresses::{API_PORT, CONTROLLER_MANAGER_PORT, HUB, SCHEDULER_PORT};
use super::kubeconfig::Users;
use super::pki::Pki;
use super::process::Process;
use super::settings::Settings;
use super::{etcd, flags, hub};
use crate::cgroup::Cgroup;
use crate::netns::Netns;
use crate::{command, wait};

/// Maximum time until a component is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

const ETCD: &str = "etcd";
const APISERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
/// All components that a complete cluster has.
pub(super) const COMPONENTS: [&str; 4] = [ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER];

/// The controller manager lists this controller once it has started all of them. Before that it does nothing useful
/// and cannot live without an API server.
const LAST_CONTROLLER: &str = "endpointslice-controller ok";

/// A running control plane; dropping it removes processes, namespaces, cgroups and files.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: clients before servers, processes before their namespaces.
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    apiserver: Option<Process>,
    etcd: Option<Process>,
    hub_cgroup: Cgroup,
    cgroup: Cgroup,
    hub: Netns,
    pki: Pki,
    users: Users,
    settings: Settings,
    dir: Folder,
}

impl ControlPlane {
    /// Starts all four and waits until each is ready.
    pub fn start(settings: &Settings) -> Result<Self> {
        let mut plane = Self::begin(settings)?;
        plane.await_controllers()?;
        Ok(plane)
    }

    /// Like [`Self::start`] for etcd and the API server only; the other two become ready later.
    pub(super) fn begin(settings: &Settings) -> Result<Self> {
        let dir = Folder::make(settings.dir.clone())?;
        let pki = Pki::make(&dir.0.join("pki"))?;
        let users =
            Users::make(&dir.0.join("users"), &Self::url_of_hub(), &pki.certificate("ca"), settings.nodes)?;
        let cgroup = Cgroup::new(&settings.name)?;
        let mut plane = Self {
            scheduler: None,
            controller_manager: None,
            apiserver: None,
            etcd: None,
            hub_cgroup: cgroup.child("hub")?,
            cgroup,
            hub: hub::make(&settings.host("hub"))?,
            pki,
            users,
            settings: settings.clone(),
            dir,
        };
        plane.etcd = Some(plane.launch(ETCD, flags::etcd(&plane.dir.0.join(ETCD)))?);
        plane.start_apiserver()?;
        plane.start_controllers()?;
        Ok(plane)
    }

    /// Starts the API server with its usual flags and those of the settings, and waits until it is ready.
    pub fn start_apiserver(&mut self) -> Result<()> {
        self.start_apiserver_with(&[])
    }

    /// Like [`Self::start_apiserver`], with additional flags for this start.
    pub fn start_apiserver_with(&mut self, more: &[&str]) -> Result<()> {
        if self.apiserver.is_some() {
            bail!("{APISERVER} is running already");
        }
        let mut flags = flags::apiserver(&self.pki, &self.users);
        flags.extend(self.settings.apiserver_flags.iter().cloned());
        flags.extend(more.iter().map(ToString::to_string));
        self.apiserver = Some(self.launch(APISERVER, flags)?);
        let ready = self.await_answer(APISERVER, &["get", "--raw", "/readyz"], "ok");
        if ready.is_err() {
            self.apiserver = None;
        }
        ready
    }

    fn start_controllers(&mut self) -> Result<()> {
        let mut controller_manager = flags::controller_manager(&self.pki, &self.users);
        controller_manager.extend(self.settings.controller_flags.iter().cloned());
        self.controller_manager = Some(self.launch(CONTROLLER_MANAGER, controller_manager)?);
        self.scheduler = Some(self.launch(SCHEDULER, flags::scheduler(&self.users))?);
        Ok(())
    }

    pub(super) fn await_controllers(&mut self) -> Result<()> {
        self.await_health(CONTROLLER_MANAGER, CONTROLLER_MANAGER_PORT, LAST_CONTROLLER)?;
        self.await_health(SCHEDULER, SCHEDULER_PORT, "healthz check passed")
    }

    /// Sends SIGTERM; returns when it has ended.
    pub fn stop_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().with_context(|| format!("{APISERVER} is not running"))?.stop()
    }

    /// Sends SIGKILL: connections are cut.
    pub fn kill_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().map(drop).with_context(|| format!("{APISERVER} is not running"))
    }

    /// Stops (`true`) or continues the API server's process: connections stay open without a response.
    pub fn freeze_apiserver(&self, frozen: bool) -> Result<()> {
        self.apiserver.as_ref().with_context(|| format!("{APISERVER} is not running"))?.freeze(frozen)
    }

    /// Compacts etcd: resuming an older watch fails with 410 Gone. The API server's watch cache keeps its history
    /// until it restarts.
    pub fn compact_etcd(&self) -> Result<()> {
        self.hub.within(etcd::compact)
    }

    /// `kubectl` as administrator, in the hub's network namespace.
    pub fn kubectl(&self) -> Result<Command> {
        self.kubectl_as("admin")
    }

    /// Helm as administrator, in the hub's network namespace.
    pub fn helm(&self) -> Result<Command> {
        self.settings.helm(&self.hub, &self.kubeconfig("admin"))
    }

    fn kubectl_as(&self, user: &str) -> Result<Command> {
        self.settings.kubectl(&self.hub, &self.kubeconfig(user))
    }

    /// Applies manifests (YAML or JSON).
    pub fn apply(&self, manifests: &str) -> Result<()> {
        command::feed(self.kubectl()?.args(["apply", "-f", "-"]), manifests).map(drop)
    }

    /// The kubeconfig of `admin`, a component, or a node (`n1`); works in the hub and on every node.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.users.kubeconfig(user)
    }

    pub fn url(&self) -> String {
        Self::url_of_hub()
    }

    fn url_of_hub() -> String {
        format!("https://{}:{API_PORT}", HUB.v4)
    }

    /// The API server's network namespace: 172.30.0.1 and fd00:30::1 on the bridge `br0`.
    pub fn hub(&self) -> &Netns {
        &self.hub
    }

    pub fn ca(&self) -> PathBuf {
        self.pki.certificate("ca")
    }

    /// The cluster's folder, with logs in `log/`.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir.0
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The cluster's cgroup, the parent of the hub's and nodes'.
    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Fails if a component has ended; the error names it and has the end of its log.
    pub fn check(&mut self) -> Result<()> {
        let processes =
            [&mut self.etcd, &mut self.apiserver, &mut self.controller_manager, &mut self.scheduler];
        processes.into_iter().flatten().try_for_each(Process::check)
    }

    fn launch(&self, name: &str, flags: Vec<String>) -> Result<Process> {
        let mut command = self.hub.command(self.settings.program(name)?)?;
        command.args(flags);
        Process::start(name, command, self.hub_cgroup.child(name)?, &self.dir.log())
    }

    fn await_health(&mut self, name: &str, port: u16, wanted: &str) -> Result<()> {
        let server = format!("--server=https://127.0.0.1:{port}");
        // Its certificate is self-made at its start.
        let ask = [&server, "--insecure-skip-tls-verify", "get", "--raw", "/healthz?verbose"];
        self.await_answer(name, &ask, wanted)
    }

    /// Waits until `kubectl`'s output contains `wanted`; fails if a component ends.
    fn await_answer(&mut self, name: &str, ask: &[&str], wanted: &str) -> Result<()> {
        let ready = wait::until(&format!("{name} is ready"), READY_LIMIT, || {
            if let Err(ended) = self.check() {
                return Ok(Some(Err(ended)));
            }
            let answer = command::run(self.kubectl()?.args(ask))?;
            Ok(answer.contains(wanted).then_some(Ok(())))
        });
        match ready {
            Ok(verdict) => verdict,
            Err(error) => Err(error.context(self.last_lines(name))),
        }
    }

    fn last_lines(&self, name: &str) -> String {
        command::last_lines(&self.dir.log().join(format!("{name}.log")))
    }
}

/// The cluster's folder; removed on drop.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make(path: PathBuf) -> Result<Self> {
        let folder = Self(path);
        fs::create_dir_all(folder.log()).with_context(|| format!("make {}", folder.0.display()))?;
        Ok(folder)
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
