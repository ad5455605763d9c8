//! Responses in each state, and at real sockets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::sync::Arc;

use super::answer::{Question, about_daemon, about_service};
use super::ports::HealthPort;
use super::*;
use crate::model::complaint::Origin;
use crate::model::name::ServiceName;

/// Longer than any wait of these tests.
const DEADLINE: Duration = Duration::from_secs(30);
/// 2026-01-01T00:00:00Z, in milliseconds since 1970.
const NOW: u64 = 1_767_225_600_000;
const GOOD: Health =
    Health { is_complete: true, pending_since: None, updated: Some(NOW - 90_000), is_node_eligible: true };

/// Status of `/healthz`, `/livez`, `/readyz`.
fn answers(health: Health) -> [bool; 3] {
    [Question::Healthz, Question::Livez, Question::Readyz].map(|q| about_daemon(q, &health, NOW).is_ok)
}

#[test]
fn sem_210_only_an_overdue_change_is_unhealthy() {
    assert_eq!(answers(GOOD), [true; 3]);
    let waiting = |ms| Health { pending_since: Some(NOW - ms), ..GOOD };
    assert_eq!(answers(waiting(60_000)), [true; 3]);
    assert_eq!(answers(waiting(60_001)), [false; 3]);
    // Setting the clock back does not make the daemon unhealthy.
    assert_eq!(answers(Health { pending_since: Some(NOW + 1), ..GOOD }), [true; 3]);
}

#[test]
fn sem_212_a_node_about_to_be_removed_is_alive_and_ready() {
    assert_eq!(answers(Health { is_node_eligible: false, ..GOOD }), [false, true, true]);
}

#[test]
fn a_starting_daemon_is_alive_and_not_ready() {
    assert_eq!(answers(Health { is_node_eligible: true, ..Health::default() }), [true, true, false]);
}

#[test]
fn sem_213_the_fields_are_those_of_kube_proxy() {
    let body = |question, health: &Health| about_daemon(question, health, NOW).body;
    let (now, then) = ("2026-01-01T00:00:00Z", "2025-12-31T23:58:30Z");
    assert_eq!(
        body(Question::Healthz, &GOOD),
        format!(
            "{{\"currentTime\":\"{now}\",\"healthy\":true,\"lastUpdated\":\"{now}\",\"nodeEligible\":true,\"status\":\
             {{\"IPv4\":{{\"healthy\":true,\"lastUpdated\":\"{then}\"}},\"IPv6\":{{\"healthy\":true,\"lastUpdated\":\
             \"{then}\"}}}}}}"
        )
    );
    let starting = body(Question::Livez, &Health::default());
    assert!(starting.contains("\"status\":{}"), "{starting}");
    let ill = Health { pending_since: Some(NOW - 70_000), ..GOOD };
    let text = body(Question::Livez, &ill);
    assert!(
        text.contains(&format!("\"lastUpdated\":\"{then}\"")) && !text.contains("nodeEligible"),
        "{text}"
    );
}

#[test]
fn sem_204_sem_206_a_service_is_healthy_on_nodes_with_endpoints_and_a_healthy_daemon() {
    let web = ServiceName::new("shop", "web");
    let good = about_service(&web, 2, true);
    assert_eq!((good.is_ok, good.weight), (true, Some(2)));
    let expected = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\
        \"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}";
    assert_eq!(good.body, expected);
    assert!(!about_service(&web, 0, true).is_ok);
    let ill = about_service(&web, 2, false);
    assert!(!ill.is_ok && ill.weight == Some(2) && ill.body.ends_with("\"serviceProxyHealthy\": false\n}"));
}

/// Running servers whose state the test sets.
struct Fixture {
    progress: watch::Sender<Progress>,
    hooks: watch::Sender<HooksStatus>,
    ports: watch::Sender<HealthPorts>,
    ledger: Ledger,
    healthz: SocketAddr,
    metrics: SocketAddr,
    _servers: Servers,
}

impl Fixture {
    fn start() -> Self {
        let (progress, progress_reader) = watch::channel(Progress::default());
        let (hooks, hooks_reader) = watch::channel(HooksStatus::default());
        let (ports, ports_reader) = watch::channel(HealthPorts::default());
        let [healthz, metrics] = [free_port(), free_port()];
        let settings =
            HealthSettings { healthz: Some(healthz), metrics: Some(metrics), ..HealthSettings::default() };
        let ledger = Ledger::default();
        let listeners = Listeners::new(ledger.clone());
        let servers = Servers::start(
            &settings,
            progress_reader,
            &hooks_reader,
            ports_reader,
            &ledger,
            listeners,
            Inspected::empty(),
        )
        .unwrap();
        Self { progress, hooks, ports, ledger, healthz, metrics, _servers: servers }
    }

    /// Publishes these ports on the loopback address, with that many endpoints.
    fn want(&self, ports: &[(SocketAddr, usize)]) {
        let port = |&(address, local_endpoints): &(SocketAddr, usize)| {
            let service = ServiceName::new("shop", "web");
            (NonZeroU16::new(address.port()).unwrap(), HealthPort { service, local_endpoints })
        };
        self.ports.send_replace(HealthPorts {
            addresses: Some(Arc::new([IpAddr::from(Ipv4Addr::LOCALHOST)].into())),
            ports: ports.iter().map(port).collect(),
            ..HealthPorts::default()
        });
    }
}

fn no_hooks() -> watch::Receiver<HooksStatus> {
    watch::channel(HooksStatus::default()).1
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Asks until the response contains `wanted`.
async fn until(address: SocketAddr, request: &'static str, wanted: &'static str) -> String {
    let ask = move || {
        let mut text = String::new();
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(DEADLINE))?;
            write!(stream, "{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
        asked.map_or_else(|error| error.to_string(), |_| text)
    };
    let wait = async {
        loop {
            let text = tokio::task::spawn_blocking(ask).await.unwrap();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("{address} never says {wanted}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_answers_as_its_state_is() {
    let world = Fixture::start();
    until(world.healthz, "GET /livez", "HTTP/1.1 200 OK").await;
    let text = until(world.healthz, "GET /healthz", "HTTP/1.1 503").await;
    for header in ["content-type: application/json\r\n", "x-content-type-options: nosniff\r\n"] {
        assert!(text.contains(header), "{text}");
    }
    until(world.healthz, "GET /readyz", "HTTP/1.1 503").await;
    world.progress.send_modify(|s| (s.synced, s.generation, s.is_node_eligible) = (true, 1, true));
    until(world.healthz, "GET /healthz", "HTTP/1.1 200 OK").await;
    until(world.healthz, "GET /readyz", "HTTP/1.1 503").await;
    world.hooks.send_modify(|hooks| hooks.is_attached = true);
    until(world.healthz, "GET /readyz", "HTTP/1.1 200 OK").await;
    until(world.healthz, "GET /healthz", "HTTP/1.1 200 OK").await;
    until(world.healthz, "GET /nothing", "HTTP/1.1 404").await;
    until(world.metrics, "GET /proxyMode", "\r\n\r\nsvc").await;
    until(world.metrics, "GET /healthz", "\r\n\r\nok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sem_201_sem_202_sem_205_health_check_node_ports_follow_the_plan() {
    let (world, [a, b]) = (Fixture::start(), [free_port(), free_port()]);
    world.want(&[(a, 1)]);
    let text = until(a, "POST /any/path", "HTTP/1.1 200 OK").await;
    assert!(
        text.contains("x-load-balancing-endpoint-weight: 1\r\n") && text.contains("\"localEndpoints\": 1")
    );
    // A connection that stays open shows that the listener stays.
    let mut kept = TcpStream::connect(a).unwrap();
    kept.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut ask_again = || {
        write!(kept, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let mut octets = [0; 1024];
        let n = kept.read(&mut octets).unwrap();
        String::from_utf8_lossy(&octets[..n]).into_owned()
    };
    assert!(ask_again().contains("HTTP/1.1 200 OK"));
    world.want(&[(a, 0), (b, 2)]);
    until(b, "GET /", "\"localEndpoints\": 2").await;
    assert!(ask_again().contains("HTTP/1.1 503"));
    world.want(&[(b, 2)]);
    until(a, "GET /", "refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_reported_and_served_once_it_is_free() {
    let (world, free) = (Fixture::start(), free_port());
    let mut complaints = world.ledger.subscribe();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    world.want(&[(address, 1), (free, 1)]);
    until(free, "GET /", "HTTP/1.1 200 OK").await;
    let origin = Origin::HealthPort(ServiceName::new("shop", "web"));
    let complained = complaints.wait_for(|all| all.contains_key(&origin));
    let all = tokio::time::timeout(DEADLINE, complained).await.unwrap().unwrap().clone();
    let expected = format!(
        "Service shop/web: spec.healthCheckNodePort: listening on {address}: Address already in use (os error 98)"
    );
    assert_eq!(all[&origin].iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    drop(taken);
    world.ports.send_modify(|_| {});
    until(address, "GET /", "HTTP/1.1 200 OK").await;
    let is_over = complaints.wait_for(|all| !all.contains_key(&origin));
    tokio::time::timeout(DEADLINE, is_over).await.unwrap().unwrap();
}

/// The servers of a daemon in which nothing happens.
struct Idle {
    servers: Servers,
    ledger: Ledger,
    /// The servers would end without them.
    _inputs: (watch::Sender<Progress>, watch::Sender<HealthPorts>),
}

impl Idle {
    fn start(settings: &HealthSettings) -> Self {
        let (progress, progress_reader) = watch::channel(Progress::default());
        let (ports, ports_reader) = watch::channel(HealthPorts::default());
        let ledger = Ledger::default();
        let listeners = Listeners::new(ledger.clone());
        let servers = Servers::start(
            settings,
            progress_reader,
            &no_hooks(),
            ports_reader,
            &ledger,
            listeners,
            Inspected::empty(),
        );
        Self { servers: servers.unwrap(), ledger, _inputs: (progress, ports) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sem_214_an_address_in_use_raises_a_complaint_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = HealthSettings { healthz: Some(taken.local_addr().unwrap()), ..HealthSettings::default() };
    let idle = Idle::start(&settings);
    let mut complaints = idle.ledger.subscribe();
    let complained = complaints.wait_for(|all| all.contains_key(&Origin::Listeners));
    let all = tokio::time::timeout(DEADLINE, complained).await.unwrap().unwrap().clone();
    let [complaint] = &all[&Origin::Listeners][..] else { panic!("{all:?}") };
    assert_eq!(complaint.object, "--healthz-bind-address");
    assert!(complaint.reason.contains("in use") && complaint.reason.contains("`ss -lntp`"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_port_is_given_to_health_and_metrics_health_has_it_and_the_other_flag_is_named() {
    let free = free_port();
    let settings = HealthSettings { healthz: Some(free), metrics: Some(free), is_hard_fail: false };
    let idle = Idle::start(&settings);
    until(free, "GET /livez", "HTTP/1.1 200 OK").await;
    let all = idle.ledger.subscribe().borrow().clone();
    let expected = format!(
        "--metrics-bind-address: {free}: --healthz-bind-address {free} has this port too: give one of them another port"
    );
    assert_eq!(all[&Origin::Listeners].iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[tokio::test]
async fn sem_214_with_hard_fail_an_address_in_use_ends_the_health_servers() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = HealthSettings {
        metrics: Some(taken.local_addr().unwrap()),
        is_hard_fail: true,
        ..HealthSettings::default()
    };
    let idle = Idle::start(&settings);
    let error = tokio::time::timeout(DEADLINE, idle.servers.ended()).await.unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("--metrics-bind-address"), "{error:#}");
}

#[tokio::test]
async fn health_servers_that_end_return_the_reason() {
    let (progress, progress_reader) = watch::channel(Progress::default());
    let (ports, ports_reader) = watch::channel(HealthPorts::default());
    let ledger = Ledger::default();
    let listeners = Listeners::new(ledger.clone());
    let settings = HealthSettings::default();
    let servers = Servers::start(
        &settings,
        progress_reader,
        &no_hooks(),
        ports_reader,
        &ledger,
        listeners,
        Inspected::empty(),
    )
    .unwrap();
    drop((progress, ports));
    let error = tokio::time::timeout(DEADLINE, servers.ended()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("health check node ports ended"), "{error:#}");
}
