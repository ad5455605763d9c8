//! The packet that is asked for: `CLIENT -> ADDRESS:PORT/PROTO`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use svc_common::addr::Proto;

use crate::model::name::proto_label;

/// Source port of a client for which none is given.
const CLIENT_PORT: u16 = 50_000;

/// The sender of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// A process of this node.
    Node,
    Address(SocketAddr),
}

/// A packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    pub client: Client,
    /// The client's port was given.
    pub has_port: bool,
    pub to: SocketAddr,
    pub proto: Proto,
}

impl Request {
    /// Parses the arguments: as one, or with `->` or `to` between client and frontend.
    pub fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let text = arguments.join(" ");
        let words: Vec<&str> = text.split_whitespace().filter(|word| !["->", "to"].contains(word)).collect();
        let [client, frontend] = *words else {
            bail!(
                "{text:?} is no packet: write 'CLIENT -> ADDRESS:PORT/PROTO' in quotes, or CLIENT to ADDRESS:PORT/PROTO"
            );
        };
        ensure!(
            frontend != "-",
            "the shell took `>` for a redirection: put the packet in quotes, or write `to` instead of `->`"
        );
        let (to, proto) = parse_frontend(frontend).with_context(|| format!("frontend {frontend:?}"))?;
        let (client, has_port) = parse_client(client).with_context(|| format!("client {client:?}"))?;
        if let Client::Address(address) = client {
            ensure!(
                address.is_ipv4() == to.is_ipv4(),
                "client {} and frontend {} are addresses of different families",
                address.ip(),
                to.ip()
            );
        }
        Ok(Self { client, has_port, to, proto })
    }
}

fn parse_frontend(text: &str) -> anyhow::Result<(SocketAddr, Proto)> {
    let (address, proto) = text.rsplit_once('/').unwrap_or((text, "TCP"));
    let proto = match proto.to_ascii_uppercase().as_str() {
        "TCP" => Proto::TCP,
        "UDP" => Proto::UDP,
        "SCTP" => Proto::SCTP,
        _ => bail!("{proto:?} is no protocol of a Service (TCP, UDP, SCTP)"),
    };
    let address: SocketAddr =
        address.parse().ok().context("not ADDRESS:PORT, with an IPv6 address in brackets")?;
    ensure!(address.port() != 0, "0 is no port");
    Ok((valid(address)?, proto))
}

fn parse_client(text: &str) -> anyhow::Result<(Client, bool)> {
    if text == "node" {
        return Ok((Client::Node, false));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((Client::Address(valid((address, CLIENT_PORT).into())?), false));
    }
    let address: SocketAddr =
        text.parse().ok().context("neither an address, ADDRESS:PORT nor the word `node`")?;
    ensure!(address.port() != 0, "0 is no port");
    Ok((Client::Address(valid(address)?), true))
}

fn valid(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let ip = address.ip();
    ensure!(!ip.is_unspecified() && !ip.is_multicast(), "{ip} is no address of one host");
    if let IpAddr::V6(v6) = ip {
        ensure!(v6.to_ipv4_mapped().is_none(), "{ip} is an IPv4 address in IPv6 form: write it as IPv4");
    }
    Ok(address)
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            Client::Node => f.write_str("node")?,
            Client::Address(address) => address.fmt(f)?,
        }
        write!(f, " -> {}/{}", self.to, proto_label(self.proto))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let words: Vec<String> = text.split('|').map(str::to_owned).collect();
        Request::parse(&words).map(|request| request.to_string()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_packet_is_read_in_every_spelling() {
        for (text, expected) in [
            ("10.0.0.1 -> 10.96.0.10:80/TCP", "10.0.0.1:50000 -> 10.96.0.10:80/TCP"),
            ("10.0.0.1|to|10.96.0.10:80", "10.0.0.1:50000 -> 10.96.0.10:80/TCP"),
            ("10.0.0.1:4000|10.96.0.10:53/udp", "10.0.0.1:4000 -> 10.96.0.10:53/UDP"),
            ("fd00::1|->|[fd00::10]:80/SCTP", "[fd00::1]:50000 -> [fd00::10]:80/SCTP"),
            ("[fd00::1]:4000 -> [fd00::10]:80", "[fd00::1]:4000 -> [fd00::10]:80/TCP"),
            ("node to 10.96.0.10:80", "node -> 10.96.0.10:80/TCP"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_part_that_is_wrong() {
        for (text, expected) in [
            ("", "is no packet"),
            ("10.0.0.1", "is no packet"),
            ("10.0.0.1|-", "the shell took `>`"),
            ("10.0.0.1 -> 10.96.0.10", "frontend \"10.96.0.10\": not ADDRESS:PORT"),
            ("10.0.0.1 -> 10.96.0.10:0", "frontend \"10.96.0.10:0\": 0 is no port"),
            ("10.0.0.1 -> 10.96.0.10:80/ICMP", "\"ICMP\" is no protocol"),
            ("10.0.0.1 -> [fd00::10]:80", "different families"),
            ("fd00::1 -> 10.96.0.10:80", "different families"),
            ("pod -> 10.96.0.10:80", "client \"pod\": neither an address"),
            ("0.0.0.0 -> 10.96.0.10:80", "no address of one host"),
            ("::ffff:10.0.0.1 -> [fd00::10]:80", "write it as IPv4"),
            ("10.0.0.1 -> 224.0.0.1:80", "no address of one host"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
