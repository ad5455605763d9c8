//! The operator's settings of DNS.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use hickory_server::proto::rr::Name;

use crate::model::parse::parse_dns_name;

/// The port of DNS (RFC 1035).
const PORT: u16 = 53;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsSettings {
    /// Addresses that answer questions by UDP and TCP. None: only those that Services of the manifests ask for.
    pub listen: Vec<SocketAddr>,
    pub domain: Domain,
    pub upstream: Upstreams,
}

/// The domain of all Services' names: `cluster.local`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Domain(pub Name);

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = Name::from_ascii(parse_dns_name(text)?).map_err(|error| error.to_string())?;
        let mut name = name.to_lowercase();
        name.set_fqdn(true);
        Ok(Self(name))
    }
}

/// An address with its port, 53 where none is given. It is one of this host's: the answer to a question comes from the
/// address that was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = parse_server(text)?;
        match address.ip().is_unspecified() || address.ip().is_multicast() {
            true => Err(format!("{text}: not the address of one interface")),
            false => Ok(Self(address)),
        }
    }
}

/// The servers for names of other domains.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Upstreams {
    None,
    /// The name servers of a `resolv.conf`.
    File(PathBuf),
    Servers(Vec<SocketAddr>),
}

impl FromStr for Upstreams {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::None),
            path if path.starts_with('/') => Ok(Self::File(path.into())),
            list => Ok(Self::Servers(list.split(',').map(parse_server).collect::<Result<_, _>>()?)),
        }
    }
}

fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.trim().parse::<SocketAddr>();
    let server = with_port.or_else(|_| text.trim().parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)));
    let server = server.map_err(|_| format!("{text:?} is neither IP nor IP:PORT"))?;
    match server.port() {
        0 => Err(format!("{text:?} has port 0")),
        _ => Ok(server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_port_53_unless_they_say_otherwise() {
        let listen = |text: &str| text.parse::<ListenAddress>().map(|address| address.0.to_string());
        assert_eq!(listen("192.0.2.1"), Ok("192.0.2.1:53".to_owned()));
        assert_eq!(listen("[fd00::1]:5353"), Ok("[fd00::1]:5353".to_owned()));
        assert_eq!(listen("fd00::1"), Ok("[fd00::1]:53".to_owned()));
        for bad in ["", "localhost", "0.0.0.0", "[::]:53", "192.0.2.1:0", "224.0.0.1"] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn upstreams_are_none_a_file_or_servers() {
        assert_eq!("".parse(), Ok(Upstreams::None));
        assert_eq!("/etc/resolv.conf".parse(), Ok(Upstreams::File("/etc/resolv.conf".into())));
        let servers = vec!["192.0.2.1:53".parse().unwrap(), "[fd00::1]:5353".parse().unwrap()];
        assert_eq!("192.0.2.1, [fd00::1]:5353".parse(), Ok(Upstreams::Servers(servers)));
        assert!("192.0.2.1,".parse::<Upstreams>().is_err() && "dns.example".parse::<Upstreams>().is_err());
    }

    #[test]
    fn a_domain_is_absolute_and_in_lower_case() {
        assert_eq!(
            "Cluster.Local".parse::<Domain>().map(|d| d.0.to_string()),
            Ok("cluster.local.".to_owned())
        );
        assert!("".parse::<Domain>().is_err() && "a..b".parse::<Domain>().is_err());
    }
}
