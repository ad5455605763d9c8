//! The client's destination in a row: `ClusterIP`, `NodePort@node1`, `vip2`, `external:443`, `unallocated`, `a1`.

use std::fmt;
use std::str::FromStr;

/// An address of a Service, or one that svc must leave alone, and a port if it isn't the usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    pub at: At,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    ClusterIp,
    /// A NodePort at an address of that host.
    NodePort(String),
    /// Counted from 0.
    External(u8),
    Vip(u8),
    /// An unallocated address of the Service CIDR.
    Unallocated,
    /// A host directly.
    Host(String),
}

impl FromStr for Frontend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| format!("{text}: no port"))?)),
            None => (text, None),
        };
        let nth = |kind: &str| match name.strip_prefix(kind)? {
            "" => Some(0),
            digit => digit.parse::<u8>().ok()?.checked_sub(1),
        };
        let at = match name.split_once('@') {
            Some(("NodePort", host)) => At::NodePort(host.to_owned()),
            Some(_) => return Err(format!("{text}: only a NodePort is at a node")),
            None if name == "ClusterIP" => At::ClusterIp,
            None if name == "unallocated" => At::Unallocated,
            None => match (nth("external"), nth("vip")) {
                (Some(n), _) => At::External(n),
                (_, Some(n)) => At::Vip(n),
                (None, None) => At::Host(name.to_owned()),
            },
        };
        Ok(Self { at, port })
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::ClusterIp => f.write_str("ClusterIP")?,
            At::NodePort(host) => write!(f, "NodePort@{host}")?,
            At::External(0) => f.write_str("external")?,
            At::External(n) => write!(f, "external{}", n + 1)?,
            At::Vip(0) => f.write_str("vip")?,
            At::Vip(n) => write!(f, "vip{}", n + 1)?,
            At::Unallocated => f.write_str("unallocated")?,
            At::Host(host) => f.write_str(host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_written_and_read_alike() {
        for text in [
            "ClusterIP",
            "ClusterIP:443",
            "NodePort@node1",
            "vip",
            "vip2",
            "external",
            "external3:53",
            "unallocated",
            "a1",
        ] {
            assert_eq!(text.parse::<Frontend>().unwrap().to_string(), text);
        }
        assert!("vip@node1".parse::<Frontend>().is_err() && "ClusterIP:x".parse::<Frontend>().is_err());
    }
}
