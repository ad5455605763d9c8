//! Sends one HTTP request and returns the response.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Timeout for the connection, and between two parts of the response.
const LIMIT: Duration = Duration::from_secs(2);

/// The whole response as text.
pub fn get(to: SocketAddr, path: &str) -> Result<String> {
    send(to, &format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"))
}

/// The parts of a response.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    pub status: u16,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Asks for a page with an Accept header, if one is given.
pub fn get_accepting(to: SocketAddr, path: &str, accept: Option<&str>) -> Result<Response> {
    let accept = accept.map(|accept| format!("accept: {accept}\r\n")).unwrap_or_default();
    // HTTP/1.0 has no chunks.
    parse(&send(to, &format!("GET {path} HTTP/1.0\r\nhost: node\r\n{accept}\r\n"))?)
}

fn send(to: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> Result<Response> {
    let not_http = || format!("no HTTP response: {text:.80}");
    let (head, body) = text.split_once("\r\n\r\n").with_context(not_http)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).with_context(not_http)?;
    let header =
        |line: &str| line.split_once(':').map(|(k, v)| (k.to_ascii_lowercase(), v.trim().to_owned()));
    Ok(Response { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
}
