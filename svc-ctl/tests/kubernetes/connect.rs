//! Finds the API server and its credentials.

use std::fs;
use std::path::PathBuf;

use svc_ctl::source::kubernetes::{self, Options};

use super::api::StandIn;
use super::{Follower, service};

/// A service account folder like the kubelet's, removed at the end.
struct ServiceAccount(PathBuf);

impl ServiceAccount {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("svc-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        fs::write(dir.join("token"), "secret").expect("a token");
        fs::write(dir.join("ca.crt"), include_str!("ca.crt")).expect("a certificate");
        Self(dir)
    }
}

impl Drop for ServiceAccount {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the folder");
    }
}

#[tokio::test]
async fn a_pod_with_an_explicit_address_uses_its_service_account() {
    let (account, api) = (ServiceAccount::new("account"), StandIn::start().await);
    api.apply(&service("a", 1));
    let mut follower = Follower::start(&api, |o| o.service_account = account.0.clone()).await;
    follower.until_services(&["a"]).await;
    assert_eq!(api.authorization().as_deref(), Some("Bearer secret"));
}

#[tokio::test]
async fn an_api_server_is_found_by_name() {
    let api = StandIn::start().await;
    api.apply(&service("a", 1));
    let by_name = api.url.replace("127.0.0.1", "localhost");
    let mut follower = Follower::start(&api, |o| o.master = Some(by_name)).await;
    follower.until_services(&["a"]).await;
}

#[tokio::test]
async fn a_host_name_that_does_not_resolve_is_reported() {
    let api = StandIn::start().await;
    let unknown = api.url.replace("127.0.0.1", "no-server.invalid");
    let mut follower = Follower::start(&api, |o| o.master = Some(unknown)).await;
    follower.until_complaint("resolving no-server.invalid").await;
}

#[tokio::test]
async fn a_client_says_what_is_wrong_with_its_flags() {
    let error = |options: Options| async move {
        kubernetes::connect(&options).await.map(drop).expect_err("a bad flag").to_string()
    };
    for url in ["not a url", "10.0.0.1:6443", "10.0.0.1", "ftp://10.0.0.1", "/"] {
        let bad_url = Options { master: Some(url.to_owned()), ..Options::default() };
        assert_eq!(error(bad_url).await, format!("--master: {url:?} is not a URL (https://HOST:PORT)"));
    }
    let no_file = Options { kubeconfig: Some("/nonexistent/config".into()), ..Options::default() };
    assert!(error(no_file).await.contains("--kubeconfig /nonexistent/config cannot be read"));
}

#[tokio::test]
async fn sem_253_without_an_address_the_error_names_every_way_to_give_one() {
    let account = ServiceAccount::new("no-address");
    for service_account in ["/nonexistent".into(), account.0.clone()] {
        let options = Options { service_account, ..Options::default() };
        let error = kubernetes::connect(&options).await.map(drop).expect_err("no address");
        for way in ["--kubeconfig", "--master", "ConfigMap kube-system/svc"] {
            assert!(error.to_string().contains(way), "{error}");
        }
    }
}
