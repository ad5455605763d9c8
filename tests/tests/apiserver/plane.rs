//! A control plane for several cases: its objects by kubectl, and its requests by its audit log.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use svc_tests::cluster::{ControlPlane, Settings};
use svc_tests::{command, run_name, wait};

use crate::objects;

/// Namespace of the daemons' ServiceAccounts; the audit log has only their requests.
pub const ACCOUNTS: &str = "svc-daemons";
/// The role in `deploy/rbac.yaml`.
pub const ROLE: &str = "svc";
/// The hub is 172.30.0.1, followed by the cluster's own nodes.
const FIRST_NODE: u8 = 101;

#[derive(Debug)]
pub struct SharedControlPlane {
    control: RwLock<ControlPlane>,
    kubectl: PathBuf,
    audit: PathBuf,
    next_node: AtomicU8,
}

impl SharedControlPlane {
    pub fn start(name: &str) -> Result<Self> {
        let mut settings = Settings::of_test(name)?;
        let (policy, audit) = (settings.dir.join("audit-policy.json"), settings.dir.join("audit.log"));
        fs::create_dir_all(&settings.dir).with_context(|| format!("make {}", settings.dir.display()))?;
        fs::write(&policy, audit_policy().to_string()).context("write the audit policy")?;
        settings.apiserver_flags = vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", audit.display()),
        ];
        // There is no kubelet to report Nodes as healthy; otherwise their Pods would be removed from Services.
        settings.controller_flags = vec!["--node-monitor-grace-period=24h".into()];
        // The default is twenty requests per second.
        settings.controller_flags.extend(["--kube-api-qps=1000".into(), "--kube-api-burst=1000".into()]);
        let control = ControlPlane::start(&settings)?;
        let rights = run_name::workspace_dir().join("deploy/rbac.yaml");
        control.apply(&fs::read_to_string(&rights).with_context(|| rights.display().to_string())?)?;
        control.apply(&objects::namespace(ACCOUNTS).to_string())?;
        let (kubectl, next_node) = (settings.program("kubectl")?, AtomicU8::new(FIRST_NODE));
        Ok(Self { control: RwLock::new(control), kubectl, audit, next_node })
    }

    pub fn control(&self) -> RwLockReadGuard<'_, ControlPlane> {
        self.control.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For starting and stopping its parts.
    pub fn control_mut(&self) -> RwLockWriteGuard<'_, ControlPlane> {
        self.control.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repairs the state after a failed case.
    pub fn revive(&self) {
        let _ = self.control().freeze_apiserver(false);
        // An error if it is running already.
        let _ = self.control_mut().start_apiserver();
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.kubectl_command()?.args(arguments))
    }

    /// Creates objects; returns them.
    pub fn create(&self, objects: &[Value]) -> Result<Vec<Value>> {
        let made = self.with_objects(&["create", "-o", "json"], objects)?;
        let made = serde_json::Deserializer::from_str(&made).into_iter().collect::<Result<_, _>>();
        made.context("what was created")
    }

    /// Replaces objects of the same name.
    pub fn replace(&self, objects: &[Value]) -> Result<()> {
        self.with_objects(&["replace"], objects).map(drop)
    }

    /// Sets the status of Nodes and Pods, as a kubelet would.
    pub fn set_status(&self, objects: &[Value]) -> Result<()> {
        // Retried, because controllers write to them, too.
        wait::until("the status is taken", Duration::from_secs(10), || {
            self.with_objects(&["replace", "--subresource=status"], objects).map(|_| Some(()))
        })
    }

    /// One kubectl process for many objects: starting one costs more than the requests.
    fn with_objects(&self, arguments: &[&str], objects: &[Value]) -> Result<String> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        command::feed(self.kubectl_command()?.args(arguments).args(["-f", "-"]), &list)
    }

    fn kubectl_command(&self) -> Result<Command> {
        self.control().kubectl()
    }

    /// Address of the API server.
    pub fn address(&self) -> Result<SocketAddr> {
        let url = self.control().url();
        url.trim_start_matches("https://").parse().with_context(|| format!("an address in {url}"))
    }

    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// A number for a node that joins the hub: for its port and its address there.
    pub fn number_node(&self) -> u8 {
        self.next_node.fetch_add(1, Ordering::Relaxed)
    }

    /// A daemon's requests so far with their results, in order.
    pub fn requests(&self, account: &str) -> Result<Vec<Request>> {
        let text = fs::read_to_string(&self.audit).context("read the audit log")?;
        let user = format!("system:serviceaccount:{ACCOUNTS}:{account}");
        let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(parsed
            .filter(|entry| entry["user"]["username"] == *user)
            .filter_map(|entry| Request::parse(&entry))
            .collect())
    }
}

/// A line of the audit log; a watch is logged at its begin.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: String,
    pub resource: String,
    pub uri: String,
    pub code: u64,
    /// The request's token.
    pub credential: String,
}

impl Request {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.uri.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The request lists all objects, or is a watch that begins with them.
    pub fn is_list(&self) -> bool {
        self.verb == "list" || self.parameter("sendInitialEvents") == Some("true")
    }

    fn parse(entry: &Value) -> Option<Self> {
        let is_watch = entry["verb"] == "watch";
        let is_refused = entry["responseStatus"]["code"].as_u64()? >= 400;
        let wanted = if is_watch && !is_refused { "ResponseStarted" } else { "ResponseComplete" };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (entry["stage"] == wanted).then(|| Self {
            verb: text(&entry["verb"]),
            resource: text(&entry["objectRef"]["resource"]),
            uri: text(&entry["requestURI"]),
            code: entry["responseStatus"]["code"].as_u64().unwrap_or_default(),
            credential: text(&entry["user"]["extra"]["authentication.kubernetes.io/credential-id"][0]),
        })
    }
}

fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": [format!("system:serviceaccounts:{ACCOUNTS}")]},
            {"level": "None"},
        ],
    })
}
