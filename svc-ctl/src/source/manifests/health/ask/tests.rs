//! Every kind of question, asked of small servers on the loopback interface.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::rustls;

use super::super::probe::Thresholds;
use super::*;

async fn ask(question: Question) -> Result<(), String> {
    let probe = Probe {
        question,
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        thresholds: Thresholds { successes: 1, failures: 1 },
    };
    Asker::new().unwrap().ask(&probe).await
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn a_tcp_connection_is_accepted_or_refused() {
    let (listener, address) = listener().await;
    assert_eq!(ask(Question::Tcp(address.clone())).await, Ok(()));
    drop(listener);
    let error = ask(Question::Tcp(address.clone())).await.unwrap_err();
    assert!(error.starts_with(&address) && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn an_http_answer_below_400_is_ready_and_the_request_has_its_headers() {
    let (listener, address) = listener().await;
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&seen);
    let good = get(move |headers: HeaderMap| async move {
        let of = |name: &str| headers.get(name).map_or_else(String::new, |v| v.to_str().unwrap().to_owned());
        note.lock().unwrap().push(["user-agent", "host", "x-a"].map(of).join(" "));
    });
    let moved = get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/bad")]) });
    let bad = get(|| async { StatusCode::SERVICE_UNAVAILABLE });
    let app = Router::new().route("/good", good).route("/moved", moved).route("/bad", bad);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let get = async |path: &str, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        ask(Question::Http { url: format!("http://{address}{path}"), headers }).await
    };
    assert_eq!(get("/good", &[("X-A", "b"), ("Host", "web.example")]).await, Ok(()));
    assert_eq!(get("/good", &[("User-Agent", "me")]).await, Ok(()));
    assert_eq!(get("/moved", &[]).await, Ok(()));
    let expected = format!("http://{address}/bad: 503 Service Unavailable");
    assert_eq!(get("/bad", &[]).await, Err(expected));
    let expected = ["kube-probe/svc web.example b".to_owned(), format!("me {address} ")];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_ready_when_the_time_is_over() {
    let (listener, address) = listener().await;
    for question in [
        Question::Http { url: format!("http://{address}/"), headers: Vec::new() },
        Question::Grpc { target: address.clone(), service: String::new() },
    ] {
        let error = ask(question).await.unwrap_err();
        assert!(error.contains("no answer within 1 s"), "{error}");
    }
    drop(listener);
}

#[tokio::test]
async fn a_server_of_something_else_is_not_ready() {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 64]).await;
            let _ = socket.write_all(b"SSH-2.0-none\r\n").await;
        }
    });
    for url in ["http", "https"].map(|scheme| format!("{scheme}://{address}/")) {
        ask(Question::Http { url, headers: Vec::new() }).await.unwrap_err();
    }
    ask(Question::Grpc { target: address, service: String::new() }).await.unwrap_err();
}

/// Serves HTTPS with a certificate that no client can verify: for another name, signed by itself, and expired.
async fn https(listener: TcpListener, version: &'static rustls::SupportedProtocolVersion) {
    let mut certificate = rcgen::CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    certificate.not_after = rcgen::date_time_ymd(2001, 1, 1);
    certificate.not_before = rcgen::date_time_ymd(2000, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = certificate.self_signed(&key).unwrap().der().clone();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    while let Ok((socket, _)) = listener.accept().await {
        let Ok(mut socket) = acceptor.accept(socket).await else { continue };
        let mut request = [0; 1024];
        let length = socket.read(&mut request).await.unwrap();
        let is_good = request[..length].starts_with(b"GET /good ");
        let status = if is_good { "200 OK" } else { "503 Service Unavailable" };
        socket.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn https_is_asked_and_its_certificate_is_not_verified() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (listener, address) = listener().await;
        tokio::spawn(https(listener, version));
        let get = async |scheme: &str, path: &str| {
            ask(Question::Http { url: format!("{scheme}://{address}{path}"), headers: Vec::new() }).await
        };
        assert_eq!(get("https", "/good").await, Ok(()), "{version:?}");
        let expected = format!("https://{address}/bad: 503 Service Unavailable");
        assert_eq!(get("https", "/bad").await, Err(expected), "{version:?}");
        get("http", "/good").await.unwrap_err();
    }
}

/// The status of `web` that gRPC's health service returns, or an unknown one.
async fn health_service(listener: TcpListener, status: Option<u8>) {
    while let Ok((socket, _)) = listener.accept().await {
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let question = request.into_body().data().await.unwrap().unwrap();
                assert_eq!(&question[..], b"\0\0\0\0\x05\x0a\x03web");
                let head = axum::http::Response::builder().header("content-type", "application/grpc");
                let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                if let Some(status) = status {
                    stream
                        .send_data(axum::body::Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]), false)
                        .unwrap();
                }
                let code = if status.is_some() { "0" } else { "5" };
                stream
                    .send_trailers(HeaderMap::from_iter([(
                        "grpc-status".parse().unwrap(),
                        code.parse().unwrap(),
                    )]))
                    .unwrap();
            });
        }
    }
}

#[tokio::test]
async fn grpc_is_ready_if_its_health_service_is_serving() {
    for (status, expected) in [
        (Some(1), Ok(())),
        (Some(2), Err("NOT_SERVING")),
        (None, Err("Some requested entity was not found: ")),
    ] {
        let (listener, address) = listener().await;
        tokio::spawn(health_service(listener, status));
        let answer = ask(Question::Grpc { target: address.clone(), service: "web".into() }).await;
        assert_eq!(answer, expected.map_err(|reason| format!("{address}: {reason}")), "{status:?}");
    }
}
