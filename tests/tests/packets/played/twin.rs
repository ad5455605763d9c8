//! The IPv6 counterpart of a case with only IPv4 addresses: the same text with every address replaced.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_tests::packet::place::{Family, in_family};

/// `None` if the case has IPv6 addresses itself.
pub fn twin(text: &str) -> Option<String> {
    if text.contains("::") {
        return None;
    }
    let mut is_yaml = false;
    let mut twin = String::new();
    for line in text.lines() {
        match line.strip_prefix("-- ") {
            // A text about a file's state is about both families.
            Some(name) => {
                is_yaml = name.contains(".yaml");
                twin += line;
            }
            None => twin += &line_of(line, is_yaml).replace("IPv4", "IPv6"),
        }
        twin.push('\n');
    }
    Some(twin)
}

fn line_of(line: &str, is_yaml: bool) -> String {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let (mut twin, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(is_part) {
        let (before, from) = rest.split_at(at);
        let (word, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        twin += before;
        twin += &match word.parse() {
            Err(_) => word.to_owned(),
            Ok(addr) => written(addr, after, is_yaml),
        };
        rest = after;
    }
    twin + rest
}

/// An address in brackets before a port, and in quotes in YAML.
fn written(addr: Ipv4Addr, after: &str, is_yaml: bool) -> String {
    let twin = if addr.is_loopback() { Ipv6Addr::LOCALHOST.into() } else { in_family(addr, Family::V6) };
    let twin: IpAddr = twin;
    match after.strip_prefix(':') {
        Some(port) if port.starts_with(|c: char| c.is_ascii_digit()) => format!("[{twin}]"),
        _ if is_yaml => format!("'{twin}'"),
        _ => twin.to_string(),
    }
}
