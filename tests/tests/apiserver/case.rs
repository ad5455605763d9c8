//! A namespace of a case: its objects are made by the API alone, and go with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use svc_tests::topology::Family;
use svc_tests::wait;

use crate::stage::{CHANGE_LIMIT, Stage};

/// The port of every Service here.
pub const PORT: u16 = 80;

static NUMBER: AtomicU32 = AtomicU32::new(1);

pub struct Case<'a> {
    stage: &'a Stage,
    pub namespace: String,
    lasting: bool,
}

impl<'a> Case<'a> {
    /// A namespace that is deleted at the end.
    pub fn new(stage: &'a Stage, sentence: &str) -> Result<Self> {
        let initials = sentence.split(' ').filter_map(|word| word.chars().next());
        let initials: String = initials.filter(char::is_ascii_alphanumeric).collect();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut case = Self::lasting(stage, &format!("{}-{number}", initials.to_lowercase()))?;
        case.lasting = false;
        Ok(case)
    }

    /// A namespace that stays as long as the control plane.
    pub fn lasting(stage: &'a Stage, namespace: &str) -> Result<Self> {
        stage.plane().kubectl(&["create", "namespace", namespace])?;
        Ok(Self { stage, namespace: namespace.to_owned(), lasting: true })
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.stage.plane().kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    pub fn create(&self, objects: &Value) -> Result<()> {
        let arguments = ["-n", &self.namespace, "create", "-f", "-"];
        self.stage.plane().kubectl_with(&arguments, objects).map(drop)
    }

    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"])?)?)
    }

    /// A merge patch of a Service.
    pub fn patch(&self, service: &str, change: &Value) -> Result<()> {
        self.kubectl(&["patch", "service", service, "--type=merge", "-p", &change.to_string()]).map(drop)
    }

    pub fn patch_status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let change = json!({"status": status}).to_string();
        self.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &change]).map(drop)
    }

    /// Pods that stand for hosts of the stage, running and Ready; labels `app` (the host) and `stage`.
    pub fn pods(&self, hosts: &[&str]) -> Result<()> {
        // Made by a controller, and no Pod is taken before.
        wait::until_true("the namespace has its account", CHANGE_LIMIT, || {
            self.kubectl(&["get", "serviceaccount", "default"]).map(|_| true)
        })?;
        let items: Vec<_> = hosts.iter().map(|host| self.pod(host)).collect();
        self.create(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
        hosts.iter().try_for_each(|host| self.ready(host, true))
    }

    /// Says what a kubelet would of a Pod.
    pub fn ready(&self, host: &str, is_ready: bool) -> Result<()> {
        let addrs = self.stage.addrs(host)?;
        self.patch_status(
            "pod",
            host,
            &json!({
                "phase": "Running",
                "podIP": addrs.v4,
                "podIPs": [{"ip": addrs.v4}, {"ip": addrs.v6}],
                "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
            }),
        )
    }

    fn pod(&self, host: &str) -> Value {
        let node = if host == "far" { 2 } else { 1 };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": host, "labels": {"app": host, "stage": self.stage.name}},
            "spec": {
                "nodeName": self.stage.node_name(node),
                "automountServiceAccountToken": false,
                // Nobody is there who would end it.
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "server", "image": "none", "ports": [{"containerPort": self.stage.port}]}],
            },
        })
    }

    /// A dual-stack Service on port 80 over the stage's servers; `more` goes into its spec, over what is there.
    pub fn service(&self, name: &str, more: &Value) -> Result<()> {
        self.create(&self.service_object(name, more))
    }

    pub fn service_object(&self, name: &str, more: &Value) -> Value {
        let mut spec = json!({
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": PORT, "targetPort": self.stage.port}],
        });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            merge(spec, more);
        }
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": self.namespace}, "spec": spec})
    }

    /// Where clients find the Service.
    pub fn cluster_ip(&self, service: &str, family: Family) -> Result<SocketAddr> {
        let service = self.get("service", service)?;
        let addresses = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
        let parsed = addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok());
        let found = parsed.into_iter().find(|address| address.is_ipv4() == (family == Family::V4));
        Ok((found.with_context(|| format!("no ClusterIP: {service}"))?, PORT).into())
    }

    /// Both ClusterIPs.
    pub fn cluster_ips(&self, service: &str) -> Result<[SocketAddr; 2]> {
        Ok([self.cluster_ip(service, Family::V4)?, self.cluster_ip(service, Family::V6)?])
    }

    /// A host's addresses with a port, as tables show them.
    pub fn backends(&self, host: &str, port: u16) -> Result<[String; 2]> {
        let addrs = self.stage.addrs(host)?;
        Ok(Family::BOTH.map(|family| SocketAddr::from((addrs.of(family), port)).to_string()))
    }

    /// This many frontends of Services here come to have a backend; which ones.
    pub fn soon_backed(&self, count: usize) -> Result<Vec<String>> {
        wait::until(&format!("{count} frontends have backends"), 2 * CHANGE_LIMIT, || {
            let table = self.stage.table(&self.namespace)?;
            let backed = table.into_iter().filter(|(_, backends)| !backends.is_empty());
            let backed: Vec<_> = backed.map(|(frontend, _)| frontend).collect();
            ensure!(backed.len() == count, "{} have", backed.len());
            Ok(Some(backed))
        })
    }

    /// The kernel's tables come to have exactly these frontends and backends for the Services here.
    pub fn soon_table(&self, wanted: &[(String, Vec<String>)]) -> Result<()> {
        let wanted: BTreeMap<_, _> = wanted.iter().cloned().collect();
        wait::until_true("the tables are as wanted", CHANGE_LIMIT, || {
            let table = self.stage.table(&self.namespace)?;
            ensure!(table == wanted, "they hold {table:?}, wanted {wanted:?}");
            Ok(true)
        })
    }

    /// Nothing of the Services here is left in the kernel's tables.
    pub fn soon_empty(&self) -> Result<()> {
        self.soon_table(&[])
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if !self.lasting {
            // Where it cannot be done, the whole control plane goes soon.
            let _ = self.stage.plane().kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
        }
    }
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
}
