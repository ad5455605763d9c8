//! Malformed and unusual queries: each gets a valid response.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::proto::serialize::binary::{BinDecodable as _, BinEncodable as _, BinEncoder};
use hickory_server::server::{Request, RequestHandler as _, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::watch;

use super::answer::{Answer, answer};
use super::counts::DnsCounts;
use super::fit::fit;
use super::handler::Handler;
use super::records;
use super::zone::{Zone, ZoneSettings};
use crate::source::sample;

/// Labels that lead somewhere, beside any octets.
const WORDS: [&str; 22] = [
    "cluster",
    "local",
    "svc",
    "pod",
    "shop",
    "web",
    "db",
    "alias",
    "db-0",
    "10-1-0-1",
    "_http",
    "_tcp",
    "http",
    "tcp",
    "ns",
    "dns",
    "dns-version",
    "arpa",
    "in-addr",
    "ip6",
    "1",
    "_",
];
const TYPES: [u16; 12] = [1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255];

fn settings(is_forwarding: bool) -> ZoneSettings {
    ZoneSettings {
        domain: Name::from_ascii("cluster.local.").unwrap(),
        addresses: vec!["192.0.2.53".parse().unwrap()],
        is_forwarding,
    }
}

fn zone(is_forwarding: bool) -> Zone {
    let services = [
        "{metadata: {name: web, namespace: shop}, spec: {clusterIPs: [10.1.1.1, 'fd00::1'], ports: [{name: http, port: 80}]}}",
        "{metadata: {name: db, namespace: shop}, spec: {clusterIP: None, ports: [{name: http, port: 80}]}}",
        "{metadata: {name: alias, namespace: shop}, spec: {type: ExternalName, externalName: db.shop.svc.cluster.local}}",
    ];
    let slice = "{metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: db}}, addressType: IPv4,
        ports: [{name: http, port: 80}], endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2], hostname: db-0}]}";
    let store = sample::store_with_names(&services.map(str::to_owned), &[slice.to_owned()]);
    let mut zone = Zone::new(settings(is_forwarding));
    zone.set_world(store.world(), 7);
    zone
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::sample::select(WORDS.as_slice()).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::sample::select(WORDS.as_slice()).prop_map(|word| word.to_uppercase().into_bytes()),
        1 => vec(any::<u8>(), 1..64),
    ]
}

/// Mostly below the domain, where something may be found.
fn name() -> impl Strategy<Value = Name> {
    (vec(label(), 0..8), 0..3_usize).prop_map(|(mut labels, place)| {
        let end: &[&str] = [&["svc", "cluster", "local"][..], &["cluster", "local"], &[]][place];
        labels.extend(end.iter().map(|word| word.as_bytes().to_vec()));
        Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap_or_else(|_| Name::root())
    })
}

fn record_type() -> impl Strategy<Value = RecordType> {
    let known = proptest::sample::select(TYPES.as_slice());
    prop_oneof![3 => known, 1 => any::<u16>()].prop_map(RecordType::from)
}

fn question(name: &Name, record_type: RecordType, edns: Option<Edns>) -> Request {
    let mut message = Message::query();
    message.add_query(Query::query(name.clone(), record_type));
    message.edns = edns;
    request(message.to_bytes().unwrap(), Protocol::Udp).unwrap()
}

fn request(octets: Vec<u8>, protocol: Protocol) -> Option<Request> {
    Request::from_bytes(octets, SocketAddr::from((Ipv4Addr::LOCALHOST, 1024)), protocol).ok()
}

/// Keeps the responses instead of sending them.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<u8>>>);

#[async_trait::async_trait]
impl ResponseHandler for Sent {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut octets = self.0.lock().unwrap();
        Ok(response.destructive_emit(&mut BinEncoder::new(&mut octets))?)
    }
}

/// A client's answer.
fn asked(zone: Option<Zone>, request: &Request) -> (usize, Message) {
    let (_publish, zone) = watch::channel(zone.map(Arc::new));
    let handler = Handler { settings: settings(false), zone, upstream: None, counts: DnsCounts::default() };
    let sent = Sent::default();
    block_on(handler.handle_request::<_, TokioTime>(request, sent.clone()));
    let octets = sent.0.lock().unwrap();
    (octets.len(), Message::from_bytes(&octets).expect("an answer that can be read"))
}

fn soa_records(answer: &Answer) -> usize {
    answer.authorities.iter().filter(|record| record.record_type() == RecordType::SOA).count()
}

proptest! {
    #[test]
    fn every_question_below_the_domain_has_an_answer_and_every_denial_one_soa_record(
        name in name(), record_type in record_type(), is_forwarding in any::<bool>(),
    ) {
        let zone = zone(is_forwarding);
        let answered = answer(&zone, &name, record_type);
        prop_assert!(answered.is_some() || !zone.settings.domain.zone_of(&name));
        if let Some(answered) = answered {
            let is_denial = answered.code == ResponseCode::NXDomain
                || (answered.continues_at.is_none()
                    && answered.answers.iter().all(|r| r.record_type() == RecordType::CNAME)
                    && !matches!(record_type, RecordType::CNAME | RecordType::ANY))
                || answered.answers.is_empty();
            prop_assert_eq!(soa_records(&answered), usize::from(is_denial));
        }
    }

    #[test]
    fn whatever_arrives_has_an_answer_that_can_be_read(octets in vec(any::<u8>(), 12..200), by_tcp in any::<bool>()) {
        let protocol = if by_tcp { Protocol::Tcp } else { Protocol::Udp };
        if let Some(request) = request(octets, protocol) {
            let (_, message) = asked(Some(zone(false)), &request);
            prop_assert_eq!(message.metadata.id, request.metadata.id);
        }
    }

    #[test]
    fn an_answer_is_of_the_question_and_within_the_size_that_the_client_takes(
        name in name(), record_type in record_type(), payload in proptest::option::of(any::<u16>()),
    ) {
        let edns = payload.map(|payload| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            edns
        });
        let request = question(&name, record_type, edns);
        let (octets, message) = asked(Some(zone(false)), &request);
        prop_assert!(octets <= usize::from(payload.unwrap_or_default().max(512)));
        prop_assert_eq!(message.edns.is_some(), payload.is_some());
        prop_assert!(message.queries[0].name.eq_case(&name));
    }

    #[test]
    fn an_answer_too_long_is_truncated_with_the_tc_bit_and_the_opt_record_stays(
        name in name(), records in 0..200_u32, limit in 512..4_096_u16, has_opt in any::<bool>(),
    ) {
        let request = question(&name, RecordType::A, None);
        let mut answer = Answer::empty(ResponseCode::NoError);
        let addr = |n: u32| records::address(name.clone(), Ipv4Addr::from(n).into());
        answer.answers.extend((0..records).map(addr));
        answer.additionals.extend((0..records).map(addr));
        let mut metadata = Metadata::new(7, MessageType::Response, OpCode::Query);
        metadata.truncation = fit(&mut answer, &request.queries, metadata, has_opt, limit);
        let edns = has_opt.then(Edns::new);
        let mut octets = Vec::new();
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata, &answer.answers, &answer.authorities, [], &answer.additionals,
        );
        response.destructive_emit(&mut BinEncoder::new(&mut octets)).unwrap();
        prop_assert!(octets.len() <= usize::from(limit), "{} octets", octets.len());
        let message = Message::from_bytes(&octets).unwrap();
        // Additional records are left out unsaid, and before any other.
        prop_assert_eq!(message.metadata.truncation, message.answers.len() < records as usize);
        prop_assert!(!message.metadata.truncation || message.additionals.is_empty());
    }
}

#[test]
fn data_of_unknown_length_is_counted_exactly() {
    let name = Name::from_ascii("a.cluster.local.").unwrap();
    let request = question(&name, RecordType::TXT, None);
    let mut answer = Answer::empty(ResponseCode::NoError);
    answer.answers.push(records::version(name));
    let metadata = Metadata::new(7, MessageType::Response, OpCode::Query);
    assert!(!fit(&mut answer, &request.queries, metadata, true, 512));
    assert!(matches!(answer.answers.as_slice(), [Record { data: RData::TXT(_), .. }]));
}

#[test]
fn an_unsupported_query_gets_its_response_code() {
    let name = Name::from_ascii("web.shop.svc.cluster.local.").unwrap();
    let code = |zone, request: &Request| asked(zone, request).1.metadata.response_code;
    let plain = |record_type| question(&name, record_type, None);
    assert_eq!(code(Some(zone(false)), &plain(RecordType::A)), ResponseCode::NoError);
    assert_eq!(code(Some(zone(false)), &plain(RecordType::AXFR)), ResponseCode::Refused);
    // The set of names is unknown until every source has listed its objects.
    assert_eq!(code(None, &plain(RecordType::A)), ResponseCode::ServFail);
    let outside = question(&Name::from_ascii("example.com.").unwrap(), RecordType::A, None);
    assert_eq!(code(Some(zone(false)), &outside), ResponseCode::Refused);
    let mut newer = Edns::new();
    newer.set_version(1);
    // 16 is BADSIG too, in another place.
    let newer = code(Some(zone(false)), &question(&name, RecordType::A, Some(newer)));
    assert_eq!(u16::from(newer), u16::from(ResponseCode::BADVERS));
    let mut update = Message::query();
    update.metadata.op_code = OpCode::Notify;
    update.add_query(Query::query(name.clone(), RecordType::SOA));
    let update = request(update.to_bytes().unwrap(), Protocol::Udp).unwrap();
    assert_eq!(code(Some(zone(false)), &update), ResponseCode::NotImp);
}
