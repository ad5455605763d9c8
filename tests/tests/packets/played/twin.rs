//! The IPv6 twin of a case that knows IPv4 alone: the same text, every address in it the twin of what it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_tests::packet::place::{Family, in_family};

/// Nothing, if the case has addresses of IPv6 itself.
pub fn twin(text: &str) -> Option<String> {
    if text.contains("::") {
        return None;
    }
    let mut is_yaml = false;
    let mut twin = String::new();
    for line in text.lines() {
        match line.strip_prefix("-- ") {
            // What is said about a file's state is said of both families.
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

/// Before a port an address stands in brackets, in YAML in quotes.
fn written(addr: Ipv4Addr, after: &str, is_yaml: bool) -> String {
    let twin = if addr.is_loopback() { Ipv6Addr::LOCALHOST.into() } else { in_family(addr, Family::V6) };
    let twin: IpAddr = twin;
    match after.strip_prefix(':') {
        Some(port) if port.starts_with(|c: char| c.is_ascii_digit()) => format!("[{twin}]"),
        _ if is_yaml => format!("'{twin}'"),
        _ => twin.to_string(),
    }
}
