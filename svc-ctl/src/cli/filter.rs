//! The filters of `svc-ctl get`.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

/// Rows that are shown. Every given filter must match.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Only of Services in this namespace. Needs the running daemon, which knows their names.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only of Services of this name. Needs the running daemon.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only with this address: as a frontend, a backend, or an end of a flow.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
}

impl Filter {
    /// Some filter was given.
    pub const fn is_given(&self) -> bool {
        self.needs_names() || self.address.is_some()
    }

    /// It asks for names.
    pub const fn needs_names(&self) -> bool {
        self.namespace.is_some() || self.name.is_some()
    }

    /// The row of a service port (`namespace/name:port/protocol`) with these addresses is shown.
    pub fn matches(&self, service: &str, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        let (namespace, rest) = service.split_once('/').unwrap_or_default();
        let name = rest.split([':', '/']).next().unwrap_or_default();
        self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && self.name.as_ref().is_none_or(|wanted| wanted == name)
            && self.address.is_none_or(|wanted| addresses.into_iter().any(|address| address == wanted))
    }
}

/// The IP addresses of socket addresses.
pub fn ips<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>) -> impl Iterator<Item = IpAddr> {
    addresses.into_iter().map(SocketAddr::ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_given_filter_must_match() {
        let filter = |namespace: &str, name: &str, address: &str| Filter {
            namespace: Some(namespace.to_owned()).filter(|text| !text.is_empty()),
            name: Some(name.to_owned()).filter(|text| !text.is_empty()),
            address: address.parse().ok(),
        };
        let addresses: [IpAddr; 2] = ["10.96.0.10".parse().unwrap(), "fd00::1".parse().unwrap()];
        for (service, filter, expected) in [
            ("shop/web:http/TCP", filter("", "", ""), true),
            ("shop/web:http/TCP", filter("shop", "web", "fd00::1"), true),
            ("shop/web/TCP", filter("shop", "web", "10.96.0.10"), true),
            ("shop/web:http/TCP", filter("sho", "", ""), false),
            ("shop/web:http/TCP", filter("", "http", ""), false),
            ("shop/web:http/TCP", filter("shop", "web", "10.96.0.1"), false),
            ("#7", filter("shop", "", ""), false),
            ("#7", filter("", "", "10.96.0.10"), true),
        ] {
            assert_eq!(filter.matches(service, addresses), expected, "{service} {filter:?}");
        }
    }
}
