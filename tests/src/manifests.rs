//! Writes the Kubernetes objects of a test as YAML files, each replaced atomically.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::topology::{Addrs, Family, Node};

/// The port of the Service in front of every server.
pub const SERVICE_PORT: u16 = 80;
/// The port the servers of the tests listen on.
pub const SERVER_PORT: u16 = 8080;

/// A dual stack NodePort Service over TCP and UDP, with its endpoints written out.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub cluster: Addrs,
    pub node_port: u16,
    /// `externalIPs`, one of each family.
    pub external: Option<Addrs>,
    /// Timeout of `sessionAffinity: ClientIP` in seconds.
    pub affinity: Option<u32>,
    pub backends: Vec<Backend>,
}

/// An endpoint: a pod, or a server in the host network of a node.
#[derive(Clone, Debug)]
pub struct Backend {
    pub name: String,
    pub addrs: Addrs,
    pub node: String,
}

/// A folder that the daemons watch.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path: path.into() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes another file and renames it, as careful editors do.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let hidden = self.path.join(format!(".{file}.new"));
        fs::write(&hidden, text).with_context(|| format!("write {}", hidden.display()))?;
        fs::rename(&hidden, self.path.join(file)).with_context(|| format!("replace {file}"))
    }

    pub fn remove(&self, file: &str) -> Result<()> {
        fs::remove_file(self.path.join(file)).with_context(|| format!("remove {file}"))
    }

    pub fn write_service(&self, service: &Service) -> Result<()> {
        self.write(&format!("{}.yaml", service.name), &service.yaml())
    }

    pub fn write_nodes<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> Result<()> {
        self.write("nodes.yaml", &nodes.into_iter().map(node_yaml).collect::<Vec<_>>().join("---\n"))
    }
}

fn node_yaml(node: &Node) -> String {
    let (own, pods) = (node.host.addrs, node.pod_cidrs());
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n\
         spec: {{podCIDR: {p4}/24, podCIDRs: [{p4}/24, \"{p6}/64\"]}}\n\
         status:\n  addresses:\n  \
         - {{type: InternalIP, address: {a4}}}\n  - {{type: InternalIP, address: \"{a6}\"}}\n  \
         - {{type: Hostname, address: {name}}}\n",
        name = node.name(),
        p4 = pods.v4,
        p6 = pods.v6,
        a4 = own.v4,
        a6 = own.v6,
    )
}

impl Service {
    /// The Service and one EndpointSlice per family.
    pub fn yaml(&self) -> String {
        let Self { name, cluster, node_port, .. } = self;
        let port = |protocol: &str| {
            format!(
                "  - {{name: {}, protocol: {protocol}, port: {SERVICE_PORT}, targetPort: {SERVER_PORT}, nodePort: {node_port}}}\n",
                protocol.to_lowercase()
            )
        };
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
             type: NodePort\n  clusterIP: {v4}\n  clusterIPs: [{v4}, \"{v6}\"]\n  \
             ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: RequireDualStack\n  ports:\n{}{}",
            port("TCP"),
            port("UDP"),
            v4 = cluster.v4,
            v6 = cluster.v6,
        );
        if let Some(Addrs { v4, v6 }) = self.external {
            text.push_str(&format!("  externalIPs: [{v4}, \"{v6}\"]\n"));
        }
        if let Some(seconds) = self.affinity {
            text.push_str(&format!(
                "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}\n"
            ));
        }
        for family in Family::BOTH {
            text.push_str(&self.slice(family));
        }
        text
    }

    fn slice(&self, family: Family) -> String {
        let name = &self.name;
        let (kind, suffix) = match family {
            Family::V4 => ("IPv4", "v4"),
            Family::V6 => ("IPv6", "v6"),
        };
        let mut text = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: {name}-{suffix}\n  namespace: default\n  \
             labels: {{kubernetes.io/service-name: {name}}}\naddressType: {kind}\nports:\n\
             - {{name: tcp, protocol: TCP, port: {SERVER_PORT}}}\n- {{name: udp, protocol: UDP, port: {SERVER_PORT}}}\n"
        );
        text.push_str(if self.backends.is_empty() { "endpoints: []\n" } else { "endpoints:\n" });
        for Backend { addrs, node, .. } in &self.backends {
            let address = addrs.of(family);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "- {{addresses: [\"{address}\"], nodeName: {node}, conditions: {{ready: true, serving: true, terminating: false}}}}"
            );
        }
        text
    }
}
