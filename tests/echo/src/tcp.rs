//! The TCP server: `who` lines, a bulk exchange, and enough HTTP for curl, on one port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::exchange::{Direction, pattern};

/// The process has received SIGTERM.
pub(crate) static IS_ENDING: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(name: &str, listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        // The client notices and reports errors of its connection.
        thread::spawn(move || talk(&name, stream));
    }
}

/// Answers lines until the client is done.
fn talk(name: &str, stream: TcpStream) -> Result<()> {
    let peer = unmapped(stream.peer_addr()?);
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        match line.trim_end().split_once(' ') {
            Some(("GET", _)) => return http(name, peer, &mut reader, &mut writer),
            Some(("bulk", octets)) => bulk(octets, &mut reader, &mut writer)?,
            // One write, so that the reply is one segment.
            _ => writer.write_all(format!("{name} {peer} {}\n", line.trim_end()).as_bytes())?,
        }
        line.clear();
    }
    Ok(())
}

/// Reads and checks the client's pattern, then sends the server's.
fn bulk(octets: &str, reader: &mut impl Read, writer: &mut impl Write) -> Result<()> {
    let octets = octets.parse().context("octets of a bulk exchange")?;
    let mut received = vec![0; octets];
    reader.read_exact(&mut received)?;
    ensure!(received == pattern(Direction::Up, 0, octets), "the client's octets came changed");
    writer.write_all(&pattern(Direction::Down, 0, octets))?;
    Ok(())
}

fn http(name: &str, peer: SocketAddr, reader: &mut impl BufRead, writer: &mut impl Write) -> Result<()> {
    let mut header = String::new();
    while reader.read_line(&mut header)? > 0 && !header.trim_end().is_empty() {
        header.clear();
    }
    let body = format!("{name} {peer} GET\n");
    let status = if IS_ENDING.load(Ordering::Relaxed) { "503 Service Unavailable" } else { "200 OK" };
    let response =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    writer.write_all(response.as_bytes())?;
    Ok(())
}

fn unmapped(peer: SocketAddr) -> SocketAddr {
    (peer.ip().to_canonical(), peer.port()).into()
}
