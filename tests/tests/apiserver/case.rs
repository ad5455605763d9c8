//! A namespace of a case: its objects are made by the API alone, and go with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svc_tests::topology::Family;
use svc_tests::wait;

use crate::objects;
use crate::stage::{CHANGE_LIMIT, Stage};

static NUMBER: AtomicU32 = AtomicU32::new(1);

pub struct Case<'a> {
    stage: &'a Stage,
    pub namespace: String,
}

impl<'a> Case<'a> {
    pub fn new(stage: &'a Stage, sentence: &str) -> Result<Self> {
        let initials = sentence.split(' ').filter_map(|word| word.chars().next());
        let initials: String = initials.filter(char::is_ascii_alphanumeric).collect();
        let namespace = format!("{}-{}", initials.to_lowercase(), NUMBER.fetch_add(1, Ordering::Relaxed));
        stage.plane().create(&objects::home(&namespace))?;
        Ok(Self { stage, namespace })
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.stage.plane().kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    /// What the API server has, to read beside a failed expectation.
    pub fn objects(&self) -> String {
        let asked = self.kubectl(&["get", "services,endpointslices,pods", "-o", "wide"]);
        asked.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Creates an object in the namespace.
    pub fn create(&self, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = self.namespace.as_str().into();
        self.stage.plane().create(&[object]).map(drop)
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
        let pods = hosts.iter().map(|host| self.stage.pod(&self.namespace, host, true));
        let pods = pods.collect::<Result<Vec<_>>>()?;
        self.stage.plane().create(&pods)?;
        self.stage.plane().set_status(&pods)
    }

    /// Says whether a Pod is Ready.
    pub fn ready(&self, host: &str, is_ready: bool) -> Result<()> {
        self.stage.plane().set_status(&[self.stage.pod(&self.namespace, host, is_ready)?])
    }

    pub fn service_object(&self, name: &str, more: &Value) -> Value {
        self.stage.service(&self.namespace, name, more)
    }

    /// A dual-stack Service on port 80 over the stage's servers, `more` over its spec. Where clients find it.
    pub fn service(&self, name: &str, more: &Value) -> Result<[SocketAddr; 2]> {
        let made = self.stage.plane().create(&[self.service_object(name, more)])?;
        objects::cluster_ips(made.first().context("nothing was created")?)
    }

    /// Where clients find a dual-stack Service now.
    pub fn cluster_ips(&self, service: &str) -> Result<[SocketAddr; 2]> {
        objects::cluster_ips(&self.get("service", service)?)
    }

    /// Where clients find a Service in one family.
    pub fn cluster_ip(&self, service: &str, family: Family) -> Result<SocketAddr> {
        objects::cluster_ip(&self.get("service", service)?, family == Family::V4)
    }

    /// A host's addresses with a port, as tables show them.
    pub fn backends(&self, host: &str, port: u16) -> Result<[String; 2]> {
        let addrs = self.stage.addrs(host)?;
        Ok(Family::BOTH.map(|family| SocketAddr::from((addrs.of(family), port)).to_string()))
    }

    /// This many frontends of Services here come to have a backend; which ones.
    pub fn soon_backed(&self, count: usize) -> Result<Vec<String>> {
        self.soon(&format!("{count} frontends have backends"), |table| {
            let backed = table.values().filter(|backends| !backends.is_empty()).count();
            ensure!(backed == count, "{backed} have");
            Ok(())
        })?;
        Ok(self.stage.table(&self.namespace)?.into_keys().collect())
    }

    /// The kernel's tables come to have exactly these frontends and backends for the Services here.
    pub fn soon_table(&self, wanted: &[(String, Vec<String>)]) -> Result<()> {
        let wanted: BTreeMap<_, _> = wanted.iter().cloned().collect();
        self.soon("the tables are as wanted", |table| {
            ensure!(*table == wanted, "they hold {table:?}, wanted {wanted:?}");
            Ok(())
        })
    }

    /// Looks at the tables whenever the daemon tells of a change, until they are as wanted.
    fn soon(
        &self,
        what: &str,
        is_wanted: impl Fn(&BTreeMap<String, Vec<String>>) -> Result<()>,
    ) -> Result<()> {
        let (mut seen, mut last) = (None, String::new());
        wait::until_true(what, 2 * CHANGE_LIMIT, || {
            let generation = self.stage.generation();
            ensure!(generation.is_none() || generation != seen, "{last}");
            seen = generation;
            let judged = is_wanted(&self.stage.table(&self.namespace)?);
            last = judged.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
            judged.map(|()| true)
        })
    }

    /// Nothing of the Services here is left in the kernel's tables.
    pub fn soon_empty(&self) -> Result<()> {
        self.soon_table(&[])
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        // Where it cannot be done, the whole control plane goes soon.
        let _ = self.stage.plane().kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
