//! Messages into questions, answers into messages.

use std::sync::Arc;

use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, LowerQuery, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::sync::watch;

use super::answer::{Answer, answer};
use super::counts::DnsCounts;
use super::fit::fit;
use super::upstream::Upstream;
use super::zone::{Zone, ZoneSettings};

/// Datagrams without EDNS (RFC 1035), and the most that any may have: larger ones are cut by the network.
const MIN_DATAGRAM: u16 = 512;
const MAX_DATAGRAM: u16 = 4_096;

pub struct Handler {
    pub settings: ZoneSettings,
    /// None until every source has listed its objects.
    pub zone: watch::Receiver<Option<Arc<Zone>>>,
    pub upstream: Option<Arc<Upstream>>,
    pub counts: DnsCounts,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let edns = request.edns.as_ref().map(response_edns);
        let limit = match (request.protocol(), &request.edns) {
            (Protocol::Udp, None) => MIN_DATAGRAM,
            (Protocol::Udp, Some(asked)) => asked.max_payload().clamp(MIN_DATAGRAM, MAX_DATAGRAM),
            _ => u16::MAX,
        };
        let (mut answer, is_ours) = self.answer(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = is_ours;
        metadata.recursion_available = self.upstream.is_some();
        metadata.response_code = answer.code;
        self.counts.responded(answer.code, is_ours);
        shuffle(&mut answer);
        metadata.truncation = fit(&mut answer, &request.queries, metadata, edns.is_some(), limit);
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &answer.answers,
            &answer.authorities,
            [],
            &answer.additionals,
        );
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(client = %request.src(), %error, "an answer is not sent");
                ResponseInfo::from(hickory_server::proto::op::Header {
                    metadata,
                    counts: hickory_server::proto::op::HeaderCounts::default(),
                })
            }
        }
    }
}

impl Handler {
    /// Also returns whether the name is in our domain.
    async fn answer(&self, request: &Request) -> (Answer, bool) {
        let refused = |code| (Answer::empty(code), false);
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return refused(ResponseCode::BADVERS);
        }
        if request.metadata.op_code != OpCode::Query {
            return refused(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else { return refused(ResponseCode::FormErr) };
        let query = info.query;
        if query.query_class() != DNSClass::IN
            || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR)
        {
            return refused(ResponseCode::Refused);
        }
        let zone = self.zone.borrow().clone();
        let Some(zone) = zone else {
            return match self.settings.domain.zone_of(&query.original().name) {
                true => refused(ResponseCode::ServFail),
                false => (self.ask_upstream(query).await, false),
            };
        };
        let mut name = query.original().name.clone();
        name.set_fqdn(true);
        match answer(&zone, &name, query.query_type()) {
            None => (self.ask_upstream(query).await, false),
            Some(ours) => (self.complete(ours, query).await, true),
        }
    }

    async fn ask_upstream(&self, query: &LowerQuery) -> Answer {
        match &self.upstream {
            Some(upstream) => upstream.ask(query.original().clone()).await,
            None => Answer::empty(ResponseCode::Refused),
        }
    }

    /// Follows an alias to a name outside of our zones, at an upstream.
    async fn complete(&self, mut ours: Answer, query: &LowerQuery) -> Answer {
        let (Some(target), Some(upstream)) = (ours.continues_at.take(), &self.upstream) else { return ours };
        let mut question = query.original().clone();
        question.set_name(target);
        let theirs = upstream.ask(question).await;
        ours.code = theirs.code;
        ours.answers.extend(theirs.answers);
        ours.authorities.extend(theirs.authorities);
        ours
    }
}

fn response_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(0);
    edns.set_max_payload(asked.max_payload().clamp(MIN_DATAGRAM, MAX_DATAGRAM));
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// Shuffles the addresses, because clients take the first one. Aliases stay before their targets.
fn shuffle(answer: &mut Answer) {
    let is_alias = |record: &&hickory_server::proto::rr::Record| record.record_type() == RecordType::CNAME;
    let aliases = answer.answers.iter().take_while(is_alias).count();
    if answer.answers.len() - aliases > 1 && !answer.answers[aliases..].iter().any(|r| is_alias(&r)) {
        fastrand::shuffle(&mut answer.answers[aliases..]);
    }
}
