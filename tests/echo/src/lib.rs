//! The test server: it reports its name and its peer's address, over TCP, UDP and HTTP. It runs in the agents in
//! namespaces and in the pods of a real cluster.

pub mod exchange;
mod listen;
mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use anyhow::Result;

/// Serves these ports in both families, in the background, until the process ends.
///
/// # Errors
///
/// Names the address that could not be bound.
pub fn serve(name: &str, tcp: &[u16], udp: &[u16]) -> Result<()> {
    tcp.iter().flat_map(|port| listen::unspecified(*port)).try_for_each(|at| listen::lines(name, at))?;
    udp.iter().flat_map(|port| listen::unspecified(*port)).try_for_each(|at| listen::datagrams(name, at))
}

/// Serves TCP and UDP at a port of one address; replies to datagrams come from that address.
///
/// # Errors
///
/// Names the address that could not be bound.
pub fn serve_at(name: &str, address: IpAddr, port: u16) -> Result<()> {
    let at = SocketAddr::new(address, port);
    listen::lines(name, at)?;
    listen::datagrams(name, at)
}

/// Makes every later GET fail with 503; everything else goes on.
pub fn say_not_ready() {
    tcp::IS_ENDING.store(true, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpStream, UdpSocket};

    #[test]
    fn lines_datagrams_and_gets_are_answered_with_name_and_peer_and_only_gets_fail_at_the_end() {
        // A port that is free in both protocols.
        let port = UdpSocket::bind("[::1]:0").unwrap().local_addr().unwrap().port();
        super::serve("a", &[port], &[port]).unwrap();

        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let client = stream.local_addr().unwrap();
        stream.write_all(b"who\n").unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("a {client} who\n"));

        let mut stream = TcpStream::connect(("::1", port)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        answer.clear();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

        super::say_not_ready();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        answer.clear();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");

        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"who", ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        let seen = format!("a {} who", socket.local_addr().unwrap());
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), seen);
    }
}
