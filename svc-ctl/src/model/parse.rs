//! Parses addresses and ports as users write them: leading zeros are decimal (SEM-009), white space around a CIDR is
//! removed.

use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;

/// Removes leading zeros from the decimal parts of a dotted quad; leaves everything else unchanged.
fn without_leading_zeros(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('.').collect();
    let dotted = parts.len() == 4 && parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_digit()));
    // An empty part stays empty, so that "1..2.3" is still invalid.
    let trim = |p: &str| match p.trim_start_matches('0') {
        "" if !p.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    dotted.then(|| parts.into_iter().map(trim).collect::<Vec<_>>().join("."))
}

/// An address; `::ffff:a.b.c.d` becomes the IPv4 address.
pub fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let sloppy = match text.rsplit_once(':') {
        Some((head, quad)) => without_leading_zeros(quad).map(|quad| format!("{head}:{quad}")),
        None => without_leading_zeros(text),
    };
    let canonical = sloppy.as_deref().unwrap_or(text);
    canonical
        .parse::<IpAddr>()
        .map(|ip| ip.to_canonical())
        .map_err(|_| format!("{text:?} is not an IP address"))
}

/// A CIDR; bits below the prefix are cleared.
pub fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let refuse = || format!("{text:?} is not a CIDR (address/length)");
    let (addr, len) = text.trim().split_once('/').ok_or_else(refuse)?;
    let addr = parse_ip(addr).map_err(|_| refuse())?;
    let len: u8 = len.parse().map_err(|_| refuse())?;
    IpNet::new(addr, len).map(|net| net.trunc()).map_err(|_| refuse())
}

/// A port number other than zero.
pub fn parse_port(number: i32) -> Result<NonZeroU16, String> {
    u16::try_from(number)
        .ok()
        .and_then(NonZeroU16::new)
        .ok_or_else(|| format!("{number} is not a port number (1 to 65535)"))
}

/// A DNS label by RFC 1123: letters, digits and inner hyphens, at most 63.
pub fn parse_label(text: &str) -> Result<&str, String> {
    let is_inner = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
    let is_label = (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    is_label.then_some(text).ok_or_else(|| format!("{text:?} is not a DNS label (RFC 1123)"))
}

/// A DNS name: labels joined by dots, at most 253 octets, optionally with a final dot.
pub fn parse_dns_name(text: &str) -> Result<&str, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    // Kubernetes allows underscores only in names of SRV records, and many aliases point to such names.
    let is_label = |label: &str| parse_label(&label.replace('_', "x")).is_ok();
    let is_name = name.len() <= 253 && name.split('.').all(is_label);
    is_name.then_some(name).ok_or_else(|| format!("{text:?} is not a DNS name (RFC 1123)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sem_009_leading_zeros_are_decimal() {
        for (text, canonical) in [
            ("172.30.0.041", "172.30.0.41"),
            ("1.2.3.004", "1.2.3.4"),
            ("192.168.099.022", "192.168.99.22"),
            ("10.180.00.001", "10.180.0.1"),
            ("010.0.0.1", "10.0.0.1"),
            ("0.0.0.0", "0.0.0.0"),
            ("2001:DB8::cb00:71fa", "2001:db8::cb00:71fa"),
            ("::ffff:10.000.0.01", "10.0.0.1"),
        ] {
            assert_eq!(parse_ip(text).map(|ip| ip.to_string()), Ok(canonical.to_owned()), "{text}");
        }
    }

    #[test]
    fn invalid_addresses_are_refused() {
        for text in
            ["", "10.0.0", "10.0.0.256", "1..2.3", "10.0.0.1 ", "node-1", "fe80::1%eth0", "0x0a.0.0.1"]
        {
            assert!(parse_ip(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sem_009_cidrs_lose_spaces_and_host_bits() {
        assert_eq!(parse_cidr(" 203.0.113.000/025").map(|n| n.to_string()), Ok("203.0.113.0/25".to_owned()));
        assert_eq!(parse_cidr("10.1.2.3/8").map(|n| n.to_string()), Ok("10.0.0.0/8".to_owned()));
        for text in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/"] {
            assert!(parse_cidr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_one_to_65535() {
        assert!(parse_port(1).is_ok() && parse_port(65_535).is_ok());
        assert!(parse_port(0).is_err() && parse_port(65_536).is_err() && parse_port(-1).is_err());
    }
    #[test]
    fn names_are_labels_joined_by_dots() {
        let long = "a".repeat(64);
        for name in ["a", "a.b", "a.b.", "0-9.example", "_dmarc.example", "A.b", &long[..63]] {
            assert!(parse_dns_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "a..b", "-a", "a-", "a b", "a/b", "ä", &long, &"a.".repeat(128)] {
            assert!(parse_dns_name(name).is_err(), "{name}");
        }
    }
}
