//! The stub as its clients see it.

use std::io::BufRead as _;

use super::super::store::{SERVICES, SLICES};
use super::*;

fn stub() -> StubApi {
    let object =
        |name: &str| format!("\"metadata\":{{\"name\":\"{name}\",\"resourceVersion\":\"$VERSION\"}}}}");
    let slices = (0..5).map(|nth| object(&format!("slice-{nth}"))).collect();
    let store = Store::new([vec![object("a")], slices, vec![object("n")], vec![], vec![]]);
    StubApi::serve(TcpListener::bind("127.0.0.1:0").unwrap(), store).unwrap()
}

fn ask(stub: &StubApi, target: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(stub.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: stub\r\n\r\n").unwrap();
    BufReader::new(stream)
}

/// Reads up to the first line that contains `words`.
fn read_until(from: &mut BufReader<TcpStream>, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        assert_ne!(from.read_line(&mut text).unwrap(), 0, "{text}");
    }
    text
}

#[test]
fn a_streamed_list_ends_with_a_bookmark_and_changes_follow_it() {
    let stub = stub();
    let path = RESOURCES[SLICES].path;
    let mut watch = ask(&stub, &format!("{path}?watch=true&sendInitialEvents=true"));
    let list = read_until(&mut watch, "k8s.io/initial-events-end");
    assert_eq!(list.matches("\"type\":\"ADDED\"").count(), 5);
    assert!(stub.listed(&[SLICES]).is_some() && stub.listed(&[SLICES, SERVICES]).is_none());
    stub.replace(SLICES, vec![(3, "\"metadata\":{\"name\":\"new\"}}".to_owned())]);
    assert!(read_until(&mut watch, "\"new\"").contains("MODIFIED"));
    let mut late = ask(&stub, &format!("{path}?watch=1&resourceVersion=1000000"));
    read_until(&mut late, "\"new\"");
    let mut old = ask(&stub, &format!("{path}?watch=1&resourceVersion=7"));
    read_until(&mut old, "\"code\":410");
}

#[test]
fn a_list_comes_in_pages() {
    let stub = stub();
    let path = RESOURCES[SLICES].path;
    let first = read_until(&mut ask(&stub, &format!("{path}?limit=3")), "]}");
    assert!(first.contains("slice-2") && !first.contains("slice-3"), "{first}");
    assert!(first.contains("\"continue\":\"1000000.3\""), "{first}");
    let last = read_until(&mut ask(&stub, &format!("{path}?limit=3&continue=1000000.3")), "]}\n");
    assert!(last.contains("slice-4") && !last.contains("slice-2") && !last.contains("continue"), "{last}");
}
