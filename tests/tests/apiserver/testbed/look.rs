//! Expectations of a testbed, checked or awaited: traffic, tables, the daemon's reports, its rights.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use svc_tests::agent::Via;
use svc_tests::{command, wait};

use super::{CHANGE_LIMIT, Testbed};
use crate::plane::ACCOUNTS;

impl Testbed {
    /// The traffic goes on without any failure since it began.
    pub fn unnoticed(&self) -> Result<()> {
        for (what, job) in &self.traffic {
            let start = job.look()?;
            let now = wait::until(&format!("{what} go on"), Duration::from_secs(10), || {
                let now = job.look()?;
                Ok((now.ok >= start.ok + 5 || now.failed > 0).then_some(now))
            })?;
            let first = &now.first_failure;
            ensure!(
                now.failed == 0,
                "{what}: {} of {} failed, first {first:?}",
                now.failed,
                now.ok + now.failed
            );
        }
        Ok(())
    }

    /// One request; this server must answer.
    pub fn answered_by(&self, server: &str, client: &str, to: SocketAddr) -> Result<()> {
        let answers = self.agent(client)?.ask(Via::Tcp, to, 1)?;
        let names: Vec<&str> = answers.iter().map(|answer| answer.server.as_str()).collect();
        ensure!(names == [server], "expected {server} to answer {client} at {to}, {names:?} did");
        Ok(())
    }

    pub fn soon_answered_by(&self, server: &str, client: &str, to: SocketAddr) -> Result<()> {
        wait::until_true(&format!("{server} answers {client} at {to}"), CHANGE_LIMIT, || {
            self.answered_by(server, client, to).map(|()| true)
        })
    }

    /// Waits until the frontend exists without endpoints.
    pub fn soon_refused(&self, client: &str, to: SocketAddr) -> Result<()> {
        wait::until_true(&format!("{client} is refused at {to}"), CHANGE_LIMIT, || {
            let refusal = self.agent(client)?.refused(Via::Tcp, to)?;
            ensure!(refusal.errno == libc::ECONNREFUSED, "{refusal:?}");
            Ok(true)
        })
    }

    /// The generation in force according to the daemon, if it responds.
    pub fn generation(&self) -> Option<u64> {
        self.on_node(|_, daemon| daemon.status()).ok()?["generation"].as_u64()
    }

    /// Frontend -> backends in the kernel's tables, for the Services in a namespace.
    pub fn table(&self, namespace: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let rows = self.on_node(|node, daemon| daemon.get(node, "services"))?;
        let ours = |row: &&Value| {
            row["service"].as_str().is_some_and(|name| name.starts_with(&format!("{namespace}/")))
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = rows.as_array().into_iter().flatten().filter(ours);
        let backends = |row: &Value| {
            let mut backends: Vec<_> = row["backends"].as_array().into_iter().flatten().map(text).collect();
            backends.sort();
            backends
        };
        Ok(rows.map(|row| (text(&row["frontend"]), backends(row))).collect())
    }

    /// All frontends in the kernel's tables, without names and counters.
    pub fn everything(&self) -> Result<BTreeSet<String>> {
        let rows = self.on_node(|node, daemon| daemon.get(node, "services"))?;
        let shown =
            |row: &Value| format!("{} {} {}", row["frontend"], row["backends"], row["local_backends"]);
        Ok(rows.as_array().into_iter().flatten().map(shown).collect())
    }

    /// Waits until the daemon's status has this failure of the API.
    pub fn soon_reports(&self, kind: &str, reason: &str) -> Result<()> {
        wait::until_true(&format!("the status has {kind}: {reason}"), CHANGE_LIMIT, || {
            let complaints = self.on_node(|_, daemon| daemon.complaints())?;
            let has = |value: &Value, word: &str| value.as_str().is_some_and(|text| text.contains(word));
            let names = |entry: &Value| has(&entry["field"], kind) || has(&entry["object"], kind);
            let found = complaints.iter().any(|entry| names(entry) && has(&entry["reason"], reason));
            ensure!(found, "it has {complaints:?}");
            Ok(true)
        })
    }

    /// Every watch is running and has lasted for a while.
    pub fn follows_everything(&self) -> Result<bool> {
        let complaints = self.on_node(|_, daemon| daemon.complaints())?;
        Ok(complaints.iter().all(|complaint| complaint["kind"] != "source"))
    }

    /// Waits until the authorizer forbids the daemon to list this.
    pub fn soon_cannot(&self, resource: &str) -> Result<()> {
        let account = format!("system:serviceaccount:{ACCOUNTS}:{}", self.name);
        wait::until_true(&format!("{account} may not list {resource}"), CHANGE_LIMIT, || {
            let mut kubectl = self.plane.control().kubectl()?;
            let asked = kubectl.args(["auth", "can-i", "list", resource, "--as", &account]).output()?;
            Ok(asked.stdout.starts_with(b"no"))
        })
    }

    /// A process on node1 reaches the API server at this address.
    pub fn reaches_api(&self, url: &str) -> Result<()> {
        let mut kubectl = self.on_node(|node, _| node.host.command(self.plane.kubectl_program()))?;
        kubectl.env("KUBECONFIG", self.plane.control().kubeconfig("admin"));
        wait::until_true(&format!("node1 reaches {url}"), CHANGE_LIMIT, || {
            command::run(kubectl.args(["--server", url, "get", "--raw", "/readyz"])).map(|said| said == "ok")
        })
    }
}
