//! Address and credentials for the Kubernetes API, configured as in kube-proxy.
//!
//! svc itself serves the ClusterIP of `kubernetes`. So a pod's usual access to the API is used only if it works
//! already: because the kernel still has an earlier daemon's tables, or beside another proxy.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::timeout::Timeout;
use tower::{BoxError, ServiceBuilder, service_fn};

use super::Options;
use super::counted::CountRequests;
use super::failure::with_causes;
use super::resolve::resolve;
use crate::observe::metrics::requests::ApiRequests;

/// Folder of a pod's credentials: `token`, `ca.crt`. The kubelet renews them; both are read again every minute.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The remedy if the API cannot be found.
const HINT: &str = "give --kubeconfig FILE or --master URL \
    (in a cluster: `master` in the ConfigMap kube-system/svc)";

/// The remedy if a kubeconfig cannot be used.
const KUBECONFIG_HINT: &str =
    "name a kubeconfig that svc-ctl may read, or leave the flag out: then the pod's service account is used";

/// Timeout for all addresses of a name together.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Timeout for the begin of a response: longer than the API server itself works on a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// A connection with a peer silent for this long is dead, and so is a watch on it.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// Interval of keepalive probes to a silent peer. The kernel's own default is 75 s, and it checks for silence only
/// then.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Time to try the ClusterIP of `kubernetes` at the start.
const REACHABLE_WITHIN: Duration = Duration::from_secs(3);

/// A client for the options. It has sent no request, but a default address has been tried.
pub async fn connect(options: &Options) -> anyhow::Result<Client> {
    let mut config = match (&options.kubeconfig, &options.master) {
        (Some(path), _) => from_file(path).await?,
        // The address is set below.
        (None, Some(_)) => credentials(&options.service_account)?.unwrap_or_else(no_access),
        (None, None) => in_cluster(&options.service_account).await?,
    };
    if let Some(url) = &options.master {
        let not_a_url = || format!("--master: {url:?} is not a URL (https://HOST:PORT)");
        config.cluster_url = url.parse().with_context(not_a_url)?;
        ensure!(matches!(config.cluster_url.scheme_str(), Some("https" | "http")), not_a_url());
    }
    client(&config, &options.requests).context("Kubernetes client")
}

async fn from_file(path: &Path) -> anyhow::Result<Config> {
    let unusable =
        |what: &str, why: String| anyhow!("--kubeconfig {} {what}: {why}: {KUBECONFIG_HINT}", path.display());
    // The library's own error says the cause twice.
    std::fs::read(path).map_err(|error| unusable("cannot be read", error.to_string()))?;
    let refused = |error: KubeconfigError| unusable("cannot be used", with_causes(&error));
    let file = Kubeconfig::read_from(path).map_err(refused)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let config = config.map_err(refused)?;
    ensure!(config.proxy_url.is_none(), "--kubeconfig {}: proxy-url is not supported", path.display());
    Ok(config)
}

/// The credentials of a pod's service account, if there is one.
fn credentials(dir: &Path) -> anyhow::Result<Option<Config>> {
    let (token, ca) = (dir.join("token"), dir.join("ca.crt"));
    if !token.exists() {
        return Ok(None);
    }
    ensure!(ca.exists(), "{}: missing, though there is a token beside it", ca.display());
    let mut config = no_access();
    config.auth_info.token_file = Some(token.display().to_string());
    // Trust only the certificates of the file.
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(ca);
    Ok(Some(config))
}

/// A configuration without address and credentials.
fn no_access() -> Config {
    Config::new(Default::default())
}

/// The usual access of pods: the ClusterIP of `kubernetes`, if it works.
async fn in_cluster(service_account: &Path) -> anyhow::Result<Config> {
    let Some(mut config) = credentials(service_account)? else {
        bail!("no Kubernetes API is named: {HINT}");
    };
    let variable =
        |name| std::env::var(name).with_context(|| format!("no {name} in the environment: {HINT}"));
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    config.cluster_url = format!("https://{address}").parse().with_context(|| address.clone())?;
    let target: SocketAddr = address.parse().with_context(|| format!("{address}: not an address: {HINT}"))?;
    let tried = timeout(REACHABLE_WITHIN, TcpStream::connect(target)).await;
    tried.map_err(io::Error::from).flatten().with_context(|| {
        format!(
            "the Service kubernetes ({address}) does not answer, and svc itself is meant to serve it: {HINT}"
        )
    })?;
    Ok(config)
}

/// Like the library's own client, with our resolver and without its silent retries: failures are reported.
fn client(config: &Config, requests: &ApiRequests) -> anyhow::Result<Client> {
    let mut tcp = HttpConnector::new_with_resolver(service_fn(resolve));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_WITHIN));
    tcp.set_keepalive(Some(ASK_EVERY));
    tcp.set_keepalive_interval(Some(ASK_EVERY));
    tcp.set_tcp_user_timeout(Some(SILENT_FOR));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(CountRequests::new(Timeout::new(http, ANSWER_WITHIN), requests.clone()));
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unusable_kubeconfig_is_named_once_with_its_cause_and_the_remedy() {
        let file = std::env::temp_dir().join(format!("svc-kubeconfig-{}", std::process::id()));
        let refusal = async |path: &Path| format!("{:#}", from_file(path).await.unwrap_err());
        let missing = refusal(&file).await;
        assert_eq!(missing.matches("No such file").count(), 1, "{missing}");
        std::fs::write(&file, "clusters: [").unwrap();
        let broken = refusal(&file).await;
        std::fs::write(&file, "current-context: nowhere").unwrap();
        let empty = refusal(&file).await;
        std::fs::remove_file(&file).unwrap();
        for text in [missing, broken, empty] {
            let subject = format!("--kubeconfig {} cannot be ", file.display());
            assert!(text.starts_with(&subject) && text.contains("service account"), "{text}");
        }
    }
}
