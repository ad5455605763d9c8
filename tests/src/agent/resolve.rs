//! A name into an address, by asking a name server for each request anew: nothing is cached.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use hickory_server::proto::op::{Message, Query};
use hickory_server::proto::rr::{Name, RData, RecordType};
use hickory_server::proto::serialize::binary::{BinDecodable as _, BinEncodable as _};

use super::protocol::{NamedServer, Via};
use super::request::Datagrams;
use crate::topology::Family;

/// The first address of the answer: name servers shuffle them.
pub(super) fn resolve(named: &NamedServer) -> Result<SocketAddr> {
    let record_type = match named.family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(&named.name).context("the name")?, record_type));
    let socket = Datagrams::open(Via::UdpConnected, named.server)?;
    socket.send(&question.to_bytes().context("the question")?)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let length = socket.receive(&mut buffer)?;
    let answer = Message::from_bytes(buffer.get(..length).unwrap_or_default()).context("the answer")?;
    ensure!(answer.metadata.id == question.metadata.id, "an answer to another question");
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::from(address.0)),
        RData::AAAA(address) => Some(IpAddr::from(address.0)),
        _ => None,
    });
    let first = addresses.into_iter().next();
    let what = || format!("{} {record_type} is {}", named.name, answer.metadata.response_code);
    Ok(SocketAddr::new(first.with_context(what)?, named.port))
}
