//! Sends one DNS query and returns the response.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hickory_server::proto::op::{Edns, Message, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::proto::serialize::binary::{BinDecodable as _, BinEncodable as _};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// A response, reduced to what clients read. The order of records and the serial number do not matter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    pub code: ResponseCode,
    pub authoritative: bool,
    pub truncated: bool,
    pub has_opt: bool,
    pub answers: BTreeSet<String>,
    pub authorities: BTreeSet<String>,
    pub additionals: BTreeSet<String>,
}

/// `payload` is the EDNS payload size of the query; `None`: no EDNS.
pub fn ask(
    server: SocketAddr,
    name: &str,
    record_type: &str,
    by: Transport,
    payload: Option<u16>,
) -> Result<Response> {
    let question = question(name, record_type, payload)?;
    let octets = question.to_bytes().context("the question")?;
    let answer = match by {
        Transport::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0").context("a socket")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(server)?;
            socket.send(&octets)?;
            let mut buffer = vec![0; usize::from(u16::MAX)];
            let length = socket.recv(&mut buffer).context("an answer")?;
            buffer.truncate(length);
            let most = usize::from(payload.unwrap_or_default().max(512));
            ensure!(length <= most, "{name} {record_type}: {length} octets, {most} were asked for");
            buffer
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let length = u16::try_from(octets.len())?.to_be_bytes();
            stream.write_all(&[&length[..], &octets].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length).context("an answer")?;
            let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut buffer).context("an answer")?;
            buffer
        }
    };
    let message = Message::from_bytes(&answer).context("the answer")?;
    ensure!(message.metadata.id == question.metadata.id, "an answer to another question");
    ensure!(
        message.queries.len() == 1 && message.queries[0].name.eq_case(&question.queries[0].name),
        "{name}: the answer is to {:?}",
        message.queries
    );
    let set = |records: &[Record]| records.iter().map(text).collect();
    Ok(Response {
        code: message.metadata.response_code,
        authoritative: message.metadata.authoritative,
        truncated: message.metadata.truncation,
        has_opt: message.edns.is_some(),
        answers: set(&message.answers),
        authorities: set(&message.authorities),
        additionals: set(&message.additionals),
    })
}

pub fn question(name: &str, record_type: &str, payload: Option<u16>) -> Result<Message> {
    let mut message = Message::query();
    message.metadata.id = fastrand::u16(..);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).with_context(|| name.to_owned())?;
    name.set_fqdn(true);
    let record_type: RecordType = record_type.parse().with_context(|| record_type.to_owned())?;
    message.add_query(Query::query(name, record_type));
    message.edns = payload.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    Ok(message)
}

/// Only owner and TTL of an SOA record: serial numbers are times.
fn text(record: &Record) -> String {
    match record.data {
        RData::SOA(_) => format!("{} {} SOA", record.name, record.ttl),
        _ => record.to_string(),
    }
}
