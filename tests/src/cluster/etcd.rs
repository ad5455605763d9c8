//! Calls to etcd's JSON gateway.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::addresses::ETCD_PORT;

const LIMIT: Duration = Duration::from_secs(10);

/// Compacts the history: watches that resume at an older revision get 410 Gone. Must run in the hub's namespace.
pub(super) fn compact() -> Result<()> {
    // The key is a NUL octet in base64; only the response's header is used.
    let answer = post("/v3/kv/range", &json!({"key": "AA=="}))?;
    let revision = answer["header"]["revision"].as_str().context("etcd returns no revision")?.to_owned();
    post("/v3/kv/compaction", &json!({"revision": revision, "physical": true}))?;
    Ok(())
}

fn post(path: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ETCD_PORT)).context("connect etcd")?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut response = String::new();
    stream.read_to_string(&mut response).context("read from etcd")?;
    let (head, body) = response.split_once("\r\n\r\n").context("a response without an end of its header")?;
    ensure!(head.starts_with("HTTP/1.0 200 "), "etcd answers POST {path} with {response:?}");
    serde_json::from_str(body).with_context(|| format!("parse etcd's answer {body:?}"))
}
