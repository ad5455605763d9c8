//! The exact documents, and the paths.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt as _;

use super::answer::Document as _;
use super::*;

const FLAGS: [(&str, &str); 2] = [("config", ""), ("masquerade-all", "false")];

fn flagz() -> Flagz {
    Flagz(Arc::new(FLAGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into()))
}

/// 25 hours, two minutes and three seconds after the start.
fn statusz() -> Statusz {
    let start: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
    Statusz { start, now: "2026-01-02T01:02:03.9Z".parse().unwrap() }
}

#[test]
fn sem_218_the_text_equals_that_of_kube_proxy() {
    let warning = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
        guarantees and is for debugging purposes only.";
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        statusz().text(":"),
        format!(
            "\nsvc statusz\n{warning}\n\nStarted: Thu Jan  1 00:00:00 UTC 2026\nUp: 25 hr 02 min 03 sec\nBinary version: \
             {version}\nPaths: /configz /flagz /healthz /metrics /proxyMode\n"
        )
    );
    assert_eq!(flagz().text("="), format!("\nsvc flagz\n{warning}\nconfig=\nmasquerade-all=false\n"));
}

#[test]
fn sem_218_the_objects_have_the_fields_of_their_type() {
    let status = statusz().object("v1beta1");
    assert_eq!(status["kind"], "Statusz");
    assert_eq!(status["apiVersion"], "config.k8s.io/v1beta1");
    assert_eq!(status["metadata"]["name"], "svc");
    assert_eq!(status["startTime"], "2026-01-01T00:00:00Z");
    assert_eq!(status["uptimeSeconds"], 90_123);
    assert_eq!(status["binaryVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["paths"].as_array().map(Vec::len), Some(5));
    let flags = flagz().object("v1alpha1");
    assert_eq!(flags["apiVersion"], "config.k8s.io/v1alpha1");
    assert_eq!(flags["flags"]["masquerade-all"], "false");
}

#[test]
fn a_deprecated_version_is_answered_with_a_warning_and_an_unknown_form_with_406() {
    let old = "application/json;as=Flagz;v=v1alpha1;g=config.k8s.io";
    let answer = negotiate::answer(old, &flagz());
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        answer.headers()["warning"],
        "299 - \"This version of the flagz endpoint is deprecated. Please use a newer version.\""
    );
    assert_eq!(answer.headers()["content-type"], "application/json;g=config.k8s.io;v=v1alpha1;as=Flagz");
    let new = negotiate::answer(&old.replace("alpha", "beta"), &flagz());
    assert!(!new.headers().contains_key("warning"));
    for (accepted, kind) in [
        ("application/json", "application/json"),
        ("application/yaml", "application/yaml"),
        ("text/html, application/yaml;q=0.5, application/*", "application/json"),
        ("text/html", "application/json"),
    ] {
        let refused = negotiate::answer(accepted, &flagz());
        assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE, "{accepted}");
        assert_eq!(refused.headers()["content-type"], kind, "{accepted}");
    }
}

/// Status, kind and body of an answer.
async fn ask(path: &str, accepted: &str) -> (u16, String, String) {
    let request = Request::get(path).header(ACCEPT, accepted).body(Body::empty()).unwrap();
    let answer = router(Inspected::empty()).oneshot(request).await.unwrap();
    let kind = answer.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap()).to_owned();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn sem_217_the_server_has_the_paths_of_kube_proxy_and_no_others() {
    let plain = "text/plain; charset=utf-8".to_owned();
    assert_eq!(ask("/healthz", "").await, (200, plain.clone(), "ok".to_owned()));
    assert_eq!(ask("/proxyMode", "").await, (200, plain, "svc".to_owned()));
    let configz = ask("/configz", "").await;
    assert_eq!(
        configz,
        (200, "application/json".to_owned(), "{\"kubeproxy.config.k8s.io\":null}".to_owned())
    );
    for path in ["/statusz", "/flagz"] {
        let (status, _, body) = ask(path, "*/*").await;
        assert!(status == 200 && body.starts_with(&format!("\nsvc {}\n", &path[1..])), "{body}");
    }
    assert_eq!(ask("/healthz/ping", "").await.2, "ok");
    assert_eq!(ask("/healthz?verbose", "").await.2, "[+]ping ok\nhealthz check passed\n");
    for path in ["/livez", "/version"] {
        let answer = (404, "text/plain; charset=utf-8".to_owned(), "404 page not found\n".to_owned());
        assert_eq!(ask(path, "").await, answer, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_accepts_only_open_metrics_gets_it() {
    let both = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5";
    for accepted in ["", "*/*", both] {
        let (status, kind, body) = ask("/metrics", accepted).await;
        assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"), "{accepted}");
        assert!(body.starts_with("# HELP kubeproxy_") && !body.contains("# EOF"), "{body}");
    }
    let (status, kind, body) = ask("/metrics", "application/openmetrics-text;version=1.0.0").await;
    assert_eq!((status, kind.as_str()), (200, OPEN_METRICS));
    assert!(body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn slis_count_the_health_checks_of_this_address_and_configz_shows_the_configuration_in_force() {
    let (in_force, configuration) = watch::channel(ConfigurationInForce::default());
    let router = router(Inspected { configuration, ..Inspected::empty() });
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        String::from_utf8(to_bytes(answer.into_body(), 10_000).await.unwrap().to_vec()).unwrap()
    };
    let check = "kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1";
    assert!(!get("/metrics/slis").await.contains("{"), "nothing was asked yet");
    for _ in 0..3 {
        get("/healthz").await;
    }
    let page = get("/metrics/slis").await;
    let total = "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 3";
    assert!(page.contains(check) && page.contains(total), "{page}");

    assert!(get("/configz").await.contains("null"));
    let document = json!({"nodePortAddresses": ["primary"]});
    in_force.send_replace(ConfigurationInForce { document: document.into(), ..Default::default() });
    assert!(get("/configz").await.contains("primary"));
}
