//! The UDP server: replies with its name, receives and sends pieces of a bulk exchange; keeps no state between
//! datagrams.

use std::net::UdpSocket;

use crate::exchange::{Direction, PIECE, Piece, pattern};

pub(crate) fn run(name: &str, socket: &UdpSocket) {
    // Large enough for the largest datagram, which comes in fragments, as does its reply.
    let mut buffer = vec![0; usize::from(u16::MAX)];
    // An ICMP error for an earlier reply appears as an error of recv_from; the next datagram is unaffected.
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        let datagram = buffer.get(..length).unwrap_or_default();
        let answer = match Piece::parse(datagram) {
            Some(piece) => exchange(&piece),
            None => {
                let said = String::from_utf8_lossy(datagram);
                Some(format!("{name} {peer} {}", said.trim_end()).into_bytes())
            }
        };
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// Acknowledges a correct piece from the client, or sends one of the server's. A wrong piece gets no reply.
fn exchange(piece: &Piece<'_>) -> Option<Vec<u8>> {
    match piece.kind {
        Piece::UP => {
            let right = pattern(Direction::Up, piece.at(), piece.payload.len()) == piece.payload;
            right.then(|| Piece::write(Piece::ACK, piece.number, &[]))
        }
        Piece::WANT => {
            let wanted = String::from_utf8_lossy(piece.payload).parse().unwrap_or(PIECE);
            Some(Piece::write(
                Piece::DOWN,
                piece.number,
                &pattern(Direction::Down, piece.at(), wanted.min(PIECE)),
            ))
        }
        _ => None,
    }
}
