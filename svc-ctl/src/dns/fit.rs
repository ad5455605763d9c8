//! Answers that are too large for a datagram are cut, and the truncation bit makes the client ask again by TCP.
//! Optional records may be left out without that bit (RFC 2181, 9). The OPT record always stays (RFC 6891, 7).

use hickory_server::proto::op::Metadata;
use hickory_server::proto::rr::{RData, Record};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::zone_handler::{MessageResponseBuilder, Queries};

use super::answer::Answer;

/// Octets of a header, of an OPT record without options, and of a record beside its name and data.
const HEADER: usize = 12;
const OPT: u16 = 11;
const RECORD: usize = 10;
/// Type and class of a question.
const QUESTION: usize = 4;

/// Cuts the answer to the size of a message. Returns whether a record was cut that the client needs.
pub fn fit(answer: &mut Answer, queries: &Queries, metadata: Metadata, has_opt: bool, limit: u16) -> bool {
    let limit = if has_opt { limit.saturating_sub(OPT) } else { limit };
    if largest(answer, queries) <= usize::from(limit) {
        return false;
    }
    let mut octets = Vec::with_capacity(usize::from(limit));
    let mut encoder = BinEncoder::new(&mut octets);
    encoder.set_max_size(limit);
    let response = MessageResponseBuilder::new(queries, None).build(
        metadata,
        &answer.answers,
        &answer.authorities,
        [],
        &answer.additionals,
    );
    let Ok(info) = response.destructive_emit(&mut encoder) else {
        // Not even the question fits into the size that the client names.
        *answer = Answer::empty(answer.code);
        return true;
    };
    let counts = info.counts();
    let (answers, authorities) = (usize::from(counts.answers), usize::from(counts.authorities));
    let is_cut = answers < answer.answers.len() || authorities < answer.authorities.len();
    answer.answers.truncate(answers);
    answer.authorities.truncate(authorities);
    answer.additionals.truncate(usize::from(counts.additionals));
    is_cut
}

/// An upper bound of a message's octets, cheap for the usual answer of one or two records.
fn largest(answer: &Answer, queries: &Queries) -> usize {
    let records = answer.answers.iter().chain(&answer.authorities).chain(&answer.additionals);
    let questions = queries.queries().iter().map(|query| query.original().name.len() + 1 + QUESTION);
    HEADER + questions.sum::<usize>() + records.map(largest_record).sum::<usize>()
}

fn largest_record(record: &Record) -> usize {
    let data = match &record.data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::CNAME(name) => name.len() + 1,
        RData::PTR(name) => name.len() + 1,
        RData::NS(name) => name.len() + 1,
        RData::SRV(srv) => 6 + srv.target.len() + 1,
        RData::SOA(soa) => 20 + soa.mname.len() + soa.rname.len() + 2,
        // Rare, and perhaps long: counted exactly.
        _ => usize::from(u16::MAX),
    };
    record.name.len() + 1 + RECORD + data
}
