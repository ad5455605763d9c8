//! etcd, API server, controller manager and scheduler in the hub: started, awaited, hurt, removed.

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

/// From its start until a component says it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

const ETCD: &str = "etcd";
const APISERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
/// Without one of these a cluster is not whole.
pub(super) const COMPONENTS: [&str; 4] = [ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER];

/// The controller manager lists its controllers when it has started them all. Before that it is no use to anybody
/// and cannot live without an API server.
const LAST_CONTROLLER: &str = "endpointslice-controller ok";

/// A running control plane; dropping it removes processes, namespaces, cgroups and files.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: who asks before who answers, processes before what they stand in.
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
    /// Starts all four and waits until each says it is ready.
    pub fn start(settings: &Settings) -> Result<Self> {
        let mut plane = Self::begin(settings)?;
        plane.await_controllers()?;
        Ok(plane)
    }

    /// [`Self::start`] as far as the API server; the other two come to life by themselves.
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

    /// The API server with its usual flags and those of the settings, ready.
    pub fn start_apiserver(&mut self) -> Result<()> {
        self.start_apiserver_with(&[])
    }

    /// [`Self::start_apiserver`] with more flags, this time only.
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

    /// SIGTERM; returns when it has ended.
    pub fn stop_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().with_context(|| format!("{APISERVER} is not running"))?.stop()
    }

    /// SIGKILL: connections end without a word.
    pub fn kill_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().map(drop).with_context(|| format!("{APISERVER} is not running"))
    }

    /// Holds the API server where it is (`true`): connections stay, nothing answers; or lets it go on.
    pub fn freeze_apiserver(&self, frozen: bool) -> Result<()> {
        self.apiserver.as_ref().with_context(|| format!("{APISERVER} is not running"))?.freeze(frozen)
    }

    /// Takes all history from etcd: an older watch that is taken up again gets 410 Gone. The API server's watch
    /// cache still has what it has seen; it forgets by a restart.
    pub fn compact_etcd(&self) -> Result<()> {
        self.hub.within(etcd::compact)
    }

    /// `kubectl` as the administrator, in the hub's network namespace.
    pub fn kubectl(&self) -> Result<Command> {
        self.kubectl_as("admin")
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

    /// The network namespace that the API server is in: 172.30.0.1 and fd00:30::1 on the bridge `br0`.
    pub fn hub(&self) -> &Netns {
        &self.hub
    }

    pub fn ca(&self) -> PathBuf {
        self.pki.certificate("ca")
    }

    /// Where everything of the cluster is, logs in `log/`.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir.0
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The cluster's, above those of hub and nodes.
    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// An error that names the component that has ended, with the end of its log.
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
        // Its certificate is made at its start, known to nobody.
        let ask = [&server, "--insecure-skip-tls-verify", "get", "--raw", "/healthz?verbose"];
        self.await_answer(name, &ask, wanted)
    }

    /// Waits until `kubectl` answers with `wanted`; a component that ends meanwhile ends the waiting.
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

/// The cluster's folder; goes with it.
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
