//! A case's namespace: its objects are made only through the API, and deleted with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use svc_tests::topology::Family;
use svc_tests::wait;

use crate::objects;
use crate::testbed::{CHANGE_LIMIT, Testbed};

static NUMBER: AtomicU32 = AtomicU32::new(1);

pub struct Case<'a> {
    testbed: &'a Testbed,
    pub namespace: String,
}

impl<'a> Case<'a> {
    pub fn new(testbed: &'a Testbed, sentence: &str) -> Result<Self> {
        let initials = sentence.split(' ').filter_map(|word| word.chars().next());
        let initials: String = initials.filter(char::is_ascii_alphanumeric).collect();
        let namespace = format!("{}-{}", initials.to_lowercase(), NUMBER.fetch_add(1, Ordering::Relaxed));
        testbed.plane().create(&objects::home(&namespace))?;
        Ok(Self { testbed, namespace })
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.testbed.plane().kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    /// The API server's objects, for a failure message.
    pub fn objects(&self) -> String {
        let asked = self.kubectl(&["get", "services,endpointslices,pods", "-o", "wide"]);
        asked.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Creates an object in the namespace.
    pub fn create(&self, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = self.namespace.as_str().into();
        self.testbed.plane().create(&[object]).map(drop)
    }

    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"])?)?)
    }

    /// Applies a merge patch to a Service.
    pub fn patch(&self, service: &str, change: &Value) -> Result<()> {
        self.kubectl(&["patch", "service", service, "--type=merge", "-p", &change.to_string()]).map(drop)
    }

    pub fn patch_status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let change = json!({"status": status}).to_string();
        self.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &change]).map(drop)
    }

    /// Pods that stand for hosts of the testbed, running and Ready; labels `app` (the host) and `testbed`.
    pub fn pods(&self, hosts: &[&str]) -> Result<()> {
        let pods = hosts.iter().map(|host| self.testbed.pod(&self.namespace, host, true));
        let pods = pods.collect::<Result<Vec<_>>>()?;
        self.testbed.plane().create(&pods)?;
        self.testbed.plane().set_status(&pods)
    }

    /// Sets whether a Pod is Ready.
    pub fn ready(&self, host: &str, is_ready: bool) -> Result<()> {
        self.testbed.plane().set_status(&[self.testbed.pod(&self.namespace, host, is_ready)?])
    }

    pub fn service_object(&self, name: &str, more: &Value) -> Value {
        self.testbed.service(&self.namespace, name, more)
    }

    /// A dual-stack Service on port 80 for the testbed's servers, with `more` merged into its spec. Returns its
    /// addresses.
    pub fn service(&self, name: &str, more: &Value) -> Result<[SocketAddr; 2]> {
        let made = self.testbed.plane().create(&[self.service_object(name, more)])?;
        objects::cluster_ips(made.first().context("nothing was created")?)
    }

    /// The current addresses of a dual-stack Service.
    pub fn cluster_ips(&self, service: &str) -> Result<[SocketAddr; 2]> {
        objects::cluster_ips(&self.get("service", service)?)
    }

    /// The address of a Service in one family.
    pub fn cluster_ip(&self, service: &str, family: Family) -> Result<SocketAddr> {
        objects::cluster_ip(&self.get("service", service)?, family == Family::V4)
    }

    /// A host's addresses with a port, in the form of the tables.
    pub fn backends(&self, host: &str, port: u16) -> Result<[String; 2]> {
        let addrs = self.testbed.addrs(host)?;
        Ok(Family::BOTH.map(|family| SocketAddr::from((addrs.of(family), port)).to_string()))
    }

    /// Waits until this many frontends of Services here have a backend; returns them.
    pub fn soon_backed(&self, count: usize) -> Result<Vec<String>> {
        self.soon(&format!("{count} frontends have backends"), |table| {
            let backed = table.values().filter(|backends| !backends.is_empty()).count();
            ensure!(backed == count, "{backed} have");
            Ok(())
        })?;
        Ok(self.testbed.table(&self.namespace)?.into_keys().collect())
    }

    /// Waits until the kernel's tables have exactly these frontends and backends for the Services here.
    pub fn soon_table(&self, wanted: &[(String, Vec<String>)]) -> Result<()> {
        let wanted: BTreeMap<_, _> = wanted.iter().cloned().collect();
        self.soon("the tables are as wanted", |table| {
            ensure!(*table == wanted, "they hold {table:?}, wanted {wanted:?}");
            Ok(())
        })
    }

    /// Checks the tables whenever the daemon reports a change, until they are as wanted.
    fn soon(
        &self,
        what: &str,
        is_wanted: impl Fn(&BTreeMap<String, Vec<String>>) -> Result<()>,
    ) -> Result<()> {
        let (mut seen, mut last) = (None, String::new());
        wait::until_true(what, 2 * CHANGE_LIMIT, || {
            let generation = self.testbed.generation();
            ensure!(generation.is_none() || generation != seen, "{last}");
            seen = generation;
            let judged = is_wanted(&self.testbed.table(&self.namespace)?);
            last = judged.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
            judged.map(|()| true)
        })
    }

    /// Waits until the kernel's tables have nothing of the Services here.
    pub fn soon_empty(&self) -> Result<()> {
        self.soon_table(&[])
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        // If this fails, the whole control plane is removed soon.
        let _ = self.testbed.plane().kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}
