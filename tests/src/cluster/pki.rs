//! Keys and certificates of a cluster: made with it, ECDSA, one folder of PEM files.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::addresses::{HUB, KUBERNETES};

/// Names of the API server.
const API_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

#[derive(Clone, Debug)]
pub(super) struct Pki {
    dir: PathBuf,
}

impl Pki {
    pub(super) fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        let pki = Self { dir: dir.to_owned() };
        let ca = pki.authority("ca")?;
        pki.sign("apiserver", named("kube-apiserver", None, &api_addresses())?, &ca)?;
        pki.sign("kubelet-client", named("kube-apiserver", Some("system:masters"), &[])?, &ca)?;
        let front_proxy_ca = pki.authority("front-proxy-ca")?;
        pki.sign("front-proxy-client", named("front-proxy-client", None, &[])?, &front_proxy_ca)?;
        pki.service_account_keys()?;
        Ok(pki)
    }

    pub(super) fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.crt"))
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.key"))
    }

    fn authority(&self, name: &str) -> Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::generate()?;
        let mut params = named(name, None, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        self.write(name, &params.self_signed(&key)?.pem(), &key)?;
        Ok(Issuer::new(params, key))
    }

    fn sign(&self, name: &str, mut params: CertificateParams, ca: &Issuer<'_, KeyPair>) -> Result<()> {
        let key = KeyPair::generate()?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        self.write(name, &params.signed_by(&key, ca)?.pem(), &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
        write(&self.certificate(name), certificate)?;
        write(&self.key(name), &key.serialize_pem())
    }

    /// The key pair for tokens of ServiceAccounts: `service-account.key` and `.pub`.
    fn service_account_keys(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        write(&self.key("service-account"), &key.serialize_pem())?;
        write(&self.service_account_public_key(), &key.public_key_pem())
    }

    pub(super) fn service_account_public_key(&self) -> PathBuf {
        self.dir.join("service-account.pub")
    }
}

fn write(path: &Path, pem: &str) -> Result<()> {
    fs::write(path, pem).with_context(|| format!("write {}", path.display()))
}

fn named(name: &str, group: Option<&str>, alternatives: &[SanType]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.subject_alt_names = alternatives.to_vec();
    Ok(params)
}

fn api_addresses() -> Vec<SanType> {
    let addresses: [IpAddr; 6] = [
        [127, 0, 0, 1].into(),
        std::net::Ipv6Addr::LOCALHOST.into(),
        HUB.v4.into(),
        HUB.v6.into(),
        KUBERNETES.v4.into(),
        KUBERNETES.v6.into(),
    ];
    let names = API_NAMES.iter().filter_map(|name| (*name).try_into().ok()).map(SanType::DnsName);
    names.chain(addresses.map(SanType::IpAddress)).collect()
}
