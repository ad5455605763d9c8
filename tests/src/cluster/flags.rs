//! The flags of the control plane's programs.

use std::path::Path;

use super::addresses::{
    API_PORT, CONTROLLER_MANAGER_PORT, ETCD_PEER_PORT, ETCD_PORT, HUB, POD_CIDRS, SCHEDULER_PORT,
    SERVICE_CIDRS,
};
use super::kubeconfig::Users;
use super::pki::Pki;

pub(super) fn etcd(data_dir: &Path) -> Vec<String> {
    vec![
        format!("--data-dir={}", data_dir.display()),
        format!("--listen-client-urls=http://127.0.0.1:{ETCD_PORT}"),
        format!("--advertise-client-urls=http://127.0.0.1:{ETCD_PORT}"),
        format!("--listen-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}"),
        // The data does not survive the machine anyway.
        "--unsafe-no-fsync".into(),
    ]
}

pub(super) fn apiserver(pki: &Pki, users: &Users) -> Vec<String> {
    let certificate = |flag: &str, name: &str| format!("--{flag}={}", pki.certificate(name).display());
    let key = |flag: &str, name: &str| format!("--{flag}={}", pki.key(name).display());
    vec![
        format!("--etcd-servers=http://127.0.0.1:{ETCD_PORT}"),
        format!("--secure-port={API_PORT}"),
        "--bind-address=::".into(),
        format!("--advertise-address={}", HUB.v4),
        certificate("tls-cert-file", "apiserver"),
        key("tls-private-key-file", "apiserver"),
        certificate("client-ca-file", "ca"),
        certificate("kubelet-client-certificate", "kubelet-client"),
        key("kubelet-client-key", "kubelet-client"),
        "--kubelet-preferred-address-types=InternalIP,Hostname".into(),
        certificate("requestheader-client-ca-file", "front-proxy-ca"),
        "--requestheader-allowed-names=front-proxy-client".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        certificate("proxy-client-cert-file", "front-proxy-client"),
        key("proxy-client-key-file", "front-proxy-client"),
        "--enable-aggregator-routing=true".into(),
        format!("--service-cluster-ip-range={SERVICE_CIDRS}"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--service-account-key-file={}", pki.service_account_public_key().display()),
        key("service-account-signing-key-file", "service-account"),
        format!("--token-auth-file={}", users.tokens().display()),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        // Without this flag, SIGTERM takes a minute if a watch is open.
        "--shutdown-send-retry-after=true".into(),
    ]
}

pub(super) fn controller_manager(pki: &Pki, users: &Users) -> Vec<String> {
    let mut flags = client(&users.kubeconfig("kube-controller-manager"), CONTROLLER_MANAGER_PORT);
    flags.extend([
        "--use-service-account-credentials=true".into(),
        format!("--service-account-private-key-file={}", pki.key("service-account").display()),
        format!("--root-ca-file={}", pki.certificate("ca").display()),
        format!("--cluster-signing-cert-file={}", pki.certificate("ca").display()),
        format!("--cluster-signing-key-file={}", pki.key("ca").display()),
        "--allocate-node-cidrs=true".into(),
        format!("--cluster-cidr={}", POD_CIDRS.join(",")),
        format!("--service-cluster-ip-range={SERVICE_CIDRS}"),
        "--node-cidr-mask-size-ipv4=24".into(),
        "--node-cidr-mask-size-ipv6=64".into(),
    ]);
    flags
}

pub(super) fn scheduler(users: &Users) -> Vec<String> {
    client(&users.kubeconfig("kube-scheduler"), SCHEDULER_PORT)
}

/// Flags for a controller's access to the API server, and for its health port.
fn client(kubeconfig: &Path, port: u16) -> Vec<String> {
    let kubeconfig = kubeconfig.display();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={port}"),
        "--leader-elect=false".into(),
    ]
}
