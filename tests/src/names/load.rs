//! Measures a name server's throughput, cost and latency.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hickory_server::proto::serialize::binary::BinEncodable as _;

use super::ask::question;
use crate::scale::process::Process;

/// Queries in flight: enough to keep a server busy, too few to overflow its socket.
const WINDOW: usize = 64;
/// A query without a response for this long is lost.
const LOST: Duration = Duration::from_millis(200);

/// Result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Queries per second while server and client each had a CPU.
    pub a_second: f64,
    /// Queries per second of the server's CPU time.
    pub a_processor_second: f64,
    pub lost: usize,
}

/// Queries as octets, to be sent in turn.
pub fn questions(names: &[String], record_type: &str) -> Result<Vec<Vec<u8>>> {
    names.iter().map(|name| Ok(question(name, record_type, Some(1232))?.to_bytes()?)).collect()
}

/// Sends queries at the rate of the responses.
pub fn rate(server: SocketAddr, process: Process, questions: &[Vec<u8>], duration: Duration) -> Result<Rate> {
    let socket = client(server)?;
    socket.set_read_timeout(Some(LOST))?;
    let (mut sent, mut answered, mut waiting, mut lost) = (0, 0_usize, 0_usize, 0);
    let mut buffer = [0; 4096];
    let (begin, cpu) = (Instant::now(), process.cpu()?);
    while begin.elapsed() < duration {
        while waiting < WINDOW {
            socket.send(&questions[sent % questions.len()])?;
            (sent, waiting) = (sent + 1, waiting + 1);
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                ensure!(length >= 12 && buffer[3] & 0xf == 0, "an answer with code {}", buffer[3] & 0xf);
                (answered, waiting) = (answered + 1, waiting - 1);
            }
            Err(_) => (lost, waiting) = (lost + waiting, 0),
        }
    }
    let (elapsed, cpu) = (begin.elapsed(), process.cpu()? - cpu);
    Ok(Rate {
        a_second: answered as f64 / elapsed.as_secs_f64(),
        a_processor_second: answered as f64 / cpu.as_secs_f64(),
        lost,
    })
}

/// Latency at a steady rate: percentiles 50 and 99, and the number of lost queries.
pub fn latency(
    server: SocketAddr,
    questions: &[Vec<u8>],
    a_second: u32,
    duration: Duration,
) -> Result<(Duration, Duration, usize)> {
    let socket = client(server)?;
    socket.set_nonblocking(true)?;
    let pause = Duration::from_secs(1) / a_second;
    let mut sent: Vec<Option<Instant>> = vec![None; usize::from(u16::MAX) + 1];
    let (mut times, mut buffer, mut count) = (Vec::new(), [0; 4096], 0_u32);
    let begin = Instant::now();
    while begin.elapsed() < duration + LOST {
        if begin.elapsed() < duration && begin.elapsed() >= pause * count {
            let mut octets = questions[count as usize % questions.len()].clone();
            octets[..2].copy_from_slice(&(count as u16).to_be_bytes());
            sent[usize::from(count as u16)] = Some(Instant::now());
            socket.send(&octets)?;
            count += 1;
        }
        if socket.recv(&mut buffer).is_ok_and(|length| length >= 12) {
            let id = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
            times.extend(sent[id].take().map(|at| at.elapsed()));
        }
    }
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied();
    let lost = count as usize - times.len();
    Ok((at(0.50).context("no answer")?, at(0.99).context("no answer")?, lost))
}

fn client(server: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
    socket.connect(server)?;
    Ok(socket)
}
