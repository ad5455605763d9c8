//! The client's side of a bulk exchange: many octets in each direction, their contents known to both ends.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use svc_echo::exchange::{Direction, PIECE, Piece, pattern};

use super::protocol::Via;
use super::request::{self, Datagrams};

/// Datagrams in flight: few enough that no socket buffer overflows, so nothing is sent twice and every loss shows.
const WINDOW: u32 = 16;

/// Timeout between two pieces of a stream: a busy or emulated machine needs long to check a megabyte.
const STREAM_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn both_ways(via: Via, to: SocketAddr, octets: usize) -> Result<()> {
    match via {
        Via::Tcp | Via::Http => tcp(to, octets),
        Via::UdpConnected | Via::UdpUnconnected => udp(via, to, octets),
    }
}

fn tcp(to: SocketAddr, octets: usize) -> Result<()> {
    let mut stream = request::connect(to)?;
    stream.set_read_timeout(Some(STREAM_LIMIT))?;
    stream.set_write_timeout(Some(STREAM_LIMIT))?;
    writeln!(stream, "bulk {octets}")?;
    stream.write_all(&pattern(Direction::Up, 0, octets)).context("send bulk")?;
    let mut received = Vec::new();
    // If the client's octets arrive changed, the server closes early without sending anything.
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut received).with_context(|| format!("bulk: got {} of {octets}", received.len()))?;
    ensure!(received.len() == octets, "bulk: got {} octets of {octets}", received.len());
    ensure!(received == pattern(Direction::Down, 0, octets), "the server's octets came changed");
    Ok(())
}

fn udp(via: Via, to: SocketAddr, octets: usize) -> Result<()> {
    let socket = Datagrams::open(via, to)?;
    let last = u32::try_from(octets.div_ceil(PIECE))?;
    let (mut sent, mut done) = (0, 0);
    // Pieces 0..last are sent and acknowledged, pieces last..2*last are requested and received.
    while done < 2 * last {
        while sent < 2 * last && sent - done < WINDOW {
            socket.send(&piece_to_send(sent, last, octets)?)?;
            sent += 1;
        }
        let mut buffer = [0; 2048];
        let length =
            socket.receive(&mut buffer).with_context(|| format!("bulk: {done} of {} answered", 2 * last))?;
        check(buffer.get(..length).unwrap_or_default(), last, octets)?;
        done += 1;
    }
    Ok(())
}

fn piece_to_send(number: u32, last: u32, octets: usize) -> Result<Vec<u8>> {
    let at = usize::try_from(number % last)? * PIECE;
    let length = PIECE.min(octets - at);
    Ok(if number < last {
        Piece::write(Piece::UP, number, &pattern(Direction::Up, at, length))
    } else {
        Piece::write(Piece::WANT, number - last, length.to_string().as_bytes())
    })
}

fn check(datagram: &[u8], last: u32, octets: usize) -> Result<()> {
    let piece = Piece::parse(datagram).context("a datagram that is no piece")?;
    ensure!(piece.number < last, "piece {} of {last}", piece.number);
    match piece.kind {
        Piece::ACK => Ok(()),
        Piece::DOWN => {
            let wanted = pattern(Direction::Down, piece.at(), PIECE.min(octets - piece.at()));
            ensure!(piece.payload == wanted, "piece {} came changed", piece.number);
            Ok(())
        }
        other => bail!("a piece of kind {other}"),
    }
}
