//! A control plane that cases share: its objects by kubectl, and what was asked of it by its audit log.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use svc_tests::cluster::{ControlPlane, Settings};
use svc_tests::{command, run_name};

/// The daemons' accounts are in this namespace; only their requests are in the audit log.
pub const ACCOUNTS: &str = "svc-daemons";
/// The role in `deploy/rbac.yaml`.
pub const ROLE: &str = "svc";
/// The hub is 172.30.0.1, its own nodes follow.
const FIRST_NODE: u8 = 101;

#[derive(Debug)]
pub struct Plane {
    control: RwLock<ControlPlane>,
    kubectl: PathBuf,
    audit: PathBuf,
    next_node: AtomicU8,
}

impl Plane {
    pub fn start(name: &str) -> Result<Self> {
        let mut settings = Settings::of_test(name)?;
        let (policy, audit) = (settings.dir.join("audit-policy.json"), settings.dir.join("audit.log"));
        fs::create_dir_all(&settings.dir).with_context(|| format!("make {}", settings.dir.display()))?;
        fs::write(&policy, audit_policy().to_string()).context("write the audit policy")?;
        settings.apiserver_flags = vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", audit.display()),
        ];
        // No kubelet is there to say that Nodes are well; else their Pods would be taken out of Services.
        settings.controller_flags = vec!["--node-monitor-grace-period=24h".into()];
        let control = ControlPlane::start(&settings)?;
        let rights = run_name::workspace_dir().join("deploy/rbac.yaml");
        control.apply(&fs::read_to_string(&rights).with_context(|| rights.display().to_string())?)?;
        control.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ACCOUNTS}}).to_string(),
        )?;
        let (kubectl, next_node) = (settings.program("kubectl")?, AtomicU8::new(FIRST_NODE));
        Ok(Self { control: RwLock::new(control), kubectl, audit, next_node })
    }

    pub fn control(&self) -> RwLockReadGuard<'_, ControlPlane> {
        self.control.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To start and stop its parts.
    pub fn control_mut(&self) -> RwLockWriteGuard<'_, ControlPlane> {
        self.control.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts right what a failed case has left.
    pub fn revive(&self) {
        let _ = self.control().freeze_apiserver(false);
        // It says so if it is running already.
        let _ = self.control_mut().start_apiserver();
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.kubectl_command()?.args(arguments))
    }

    /// [`Self::kubectl`] with objects on stdin.
    pub fn kubectl_with(&self, arguments: &[&str], objects: &Value) -> Result<String> {
        command::feed(self.kubectl_command()?.args(arguments), &objects.to_string())
    }

    fn kubectl_command(&self) -> Result<Command> {
        self.control().kubectl()
    }

    pub fn create(&self, object: &Value) -> Result<()> {
        self.kubectl_with(&["create", "-f", "-"], object).map(drop)
    }

    /// Where the API server listens.
    pub fn address(&self) -> Result<SocketAddr> {
        let url = self.control().url();
        url.trim_start_matches("https://").parse().with_context(|| format!("an address in {url}"))
    }

    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// A number for a node that joins the hub: its port and its address there.
    pub fn number_node(&self) -> u8 {
        self.next_node.fetch_add(1, Ordering::Relaxed)
    }

    /// What a daemon has asked so far and was answered, in order.
    pub fn requests(&self, account: &str) -> Result<Vec<Request>> {
        let text = fs::read_to_string(&self.audit).context("read the audit log")?;
        let user = format!("system:serviceaccount:{ACCOUNTS}:{account}");
        let parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(parsed.filter(|entry| entry["user"]["username"] == *user).filter_map(Request::parse).collect())
    }
}

/// A line of the audit log; a watch is told when it begins.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: String,
    pub resource: String,
    pub uri: String,
    pub code: u64,
    /// Which token came with it.
    pub credential: String,
}

impl Request {
    /// What the query says of it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.uri.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Asks for everything there is, as a list or as the beginning of a watch.
    pub fn is_list(&self) -> bool {
        self.verb == "list" || self.parameter("sendInitialEvents") == Some("true")
    }

    fn parse(entry: Value) -> Option<Self> {
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
