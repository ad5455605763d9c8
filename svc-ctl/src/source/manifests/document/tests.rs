//! Texts into objects and errors.

use super::*;

fn error(text: &str) -> (usize, String) {
    let error = parse_contents(text).1.remove(0);
    (error.document, error.field)
}

#[test]
fn many_documents_and_lists_are_read() {
    let contents = parse_contents(
        "# a comment\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: List\n\
         items:\n- {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: x}}\n\
         - {apiVersion: v1, kind: ServiceList, items: [{metadata: {name: b}}, {metadata: {name: c}}]}\n",
    )
    .0;
    let names: Vec<String> = contents
        .objects
        .iter()
        .map(|f| {
            let meta = f.object.metadata();
            format!("{} {} {:?} {:?}", f.document, f.object.kind(), meta.namespace, meta.name)
        })
        .collect();
    assert_eq!(
        names,
        [
            "1 Service Some(\"default\") Some(\"a\")",
            "3 Pod Some(\"x\") Some(\"p\")",
            "3 Service Some(\"default\") Some(\"b\")",
            "3 Service Some(\"default\") Some(\"c\")"
        ]
    );
}

#[test]
fn a_state_file_of_cilium_is_read() {
    let slice = "{metadata: {name: s}, addressType: IPv4, endpoints: [], ports: []}";
    let text =
        format!("{{services: [{{metadata: {{name: a, namespace: x}}, spec: {{}}}}], endpoints: [{slice}]}}");
    let contents = parse_contents(&text).0;
    let found: Vec<String> = contents
        .objects
        .iter()
        .map(|f| format!("{}{} {:?}", f.prefix, f.object.kind(), f.object.metadata().name))
        .collect();
    assert_eq!(found, ["services[0].Service Some(\"a\")", "endpoints[0].EndpointSlice Some(\"s\")"]);
    assert_eq!(error("{services: [{metadata: {name: a}, spec: 1}]}"), (1, "services[0].spec".into()));
    assert_eq!(error("{services: {a: b}}"), (1, "services".into()));
    assert_eq!(parse_contents("{services: null, endpoints: []}"), (Contents::default(), Vec::new()));
}

#[test]
fn an_error_names_document_and_field() {
    const GOOD: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n";
    let bad = |text: &str| error(&format!("{GOOD}{text}"));
    let service = |rest: &str| bad(&format!("{{apiVersion: v1, kind: Service, {rest}}}"));
    assert_eq!(
        service("metadata: {name: b}, spec: {ports: [{port: 80}, {port: x}]}"),
        (2, "spec.ports[1].port".into())
    );
    assert_eq!(service("metadata: {}"), (2, "metadata.name".into()));
    assert_eq!(bad("{apiVersion: v1}"), (2, "kind".into()));
    assert_eq!(bad("{kind: Service}"), (2, "apiVersion".into()));
    assert_eq!(bad("just words"), (2, "kind".into()));
    assert_eq!(bad("a: [1, 2"), (2, String::new()));
    assert_eq!(
        bad("{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Pod, metadata: {name: 7}}]}"),
        (2, "items[0].metadata.name".into())
    );
}

#[test]
fn other_kinds_are_noted_and_harm_nothing() {
    let contents = parse_contents(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n---\n\
         {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: k}}\n---\n\
         {apiVersion: v1, kind: Service, metadata: {name: a}}",
    )
    .0;
    assert_eq!((contents.objects.len(), contents.unused.len()), (1, 2));
}
