//! Users of the API server: a token for each, and a kubeconfig with it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// File name of each component, and its user name.
const COMPONENTS: [(&str, &str, &str); 4] = [
    ("admin", "admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
];

#[derive(Clone, Debug)]
pub(super) struct Users {
    dir: PathBuf,
}

impl Users {
    /// Makes those of the components and of nodes `n1`, `n2`, ...; all use the API server at `url`.
    pub(super) fn make(dir: &Path, url: &str, ca: &Path, nodes: u8) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        let users = Self { dir: dir.to_owned() };
        let mut tokens = String::new();
        let mut add = |user: &str, known_as: &str, group: &str| -> Result<()> {
            let token = random_token()?;
            tokens += &format!("{token},{known_as},{known_as},\"{group}\"\n");
            let text = format!("{:#}\n", kubeconfig(url, ca, &json!({"token": token})));
            let path = users.kubeconfig(user);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        for (user, known_as, group) in COMPONENTS {
            add(user, known_as, group)?;
        }
        for node in 1..=nodes {
            add(&format!("n{node}"), &format!("system:node:n{node}"), "system:nodes")?;
        }
        fs::write(users.tokens(), tokens).context("write the token file")?;
        Ok(users)
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    pub(super) fn tokens(&self) -> PathBuf {
        self.dir.join("tokens.csv")
    }
}

/// A kubeconfig for one user as JSON, which is also YAML; `user` has the credentials.
pub fn kubeconfig(url: &str, ca: &Path, user: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "svc", "cluster": {"server": url, "certificate-authority": ca}}],
        "users": [{"name": "svc", "user": user}],
        "contexts": [{"name": "svc", "context": {"cluster": "svc", "user": "svc"}}],
        "current-context": "svc",
    })
}

fn random_token() -> Result<String> {
    let mut octets = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut octets))
        .context("read /dev/urandom")?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}
