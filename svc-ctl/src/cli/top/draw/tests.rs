//! Frames against the files of `svc-ctl/tests/top`, orders, and rates.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::super::state::{Counts, Reading, Runs};
use super::super::text;
use super::*;

const NAMES: [&str; 3] =
    ["shop/web:http/TCP", "shop/cart:http/TCP", "a-namespace/a-service-with-a-long-name:metrics/TCP"];

/// A reading after so many seconds. Counters grow with them.
fn reading(seconds: u64) -> Reading {
    let named = |values: [u64; 3]| NAMES.map(str::to_owned).into_iter().zip(values);
    let counts = |each: u64| Counts {
        flows: 7 * each * seconds,
        packets: 1_200 * each * seconds,
        octets: 1_500_000 * each * seconds,
    };
    let runs =
        |count: u64, ns| Runs { count: count * seconds, time: Duration::from_nanos(count * seconds * ns) };
    Reading {
        at: Duration::from_secs(seconds),
        services: named([3, 1, 0]).map(|(name, each)| (name, counts(each))).collect(),
        live: Some(named([12, 340, 0]).collect()),
        counters: [("drop_source_range", 5), ("reject_no_endpoint", 90), ("flow_new", 28)]
            .map(|(name, each)| (name.to_owned(), each * seconds))
            .into(),
        programs: [("pod_ingress", runs(52_000, 180)), ("uplink_xdp", runs(900_000, 95))]
            .map(|(name, runs)| (name.to_owned(), runs))
            .into(),
        is_unnamed: false,
    }
}

fn state(sort: Sort) -> State {
    let mut state = State::new(sort, reading(10));
    state.take(reading(12));
    state
}

#[test]
fn frames_of_40_80_and_200_columns_are_those_of_the_files() {
    for columns in [40, 80, 200] {
        let frame = text(&state(Sort::New), columns, 24).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/top/{columns}.txt"));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &frame).unwrap();
        }
        assert_eq!(frame, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
    }
}

#[test]
fn each_key_has_its_order() {
    for (key, first) in [('n', NAMES[0]), ('l', NAMES[1]), ('o', NAMES[0]), ('a', NAMES[2])] {
        let lines = state(Sort::of_key(key).unwrap()).services();
        assert_eq!(lines[0].name, first, "{key}");
    }
    assert_eq!(Sort::of_key('x'), None);
}

#[test]
fn without_a_second_reading_no_rate_is_claimed() {
    let mut state = State::new(Sort::New, reading(10));
    assert!(state.services().iter().all(|line| line.new == 0.0 && line.octets == 0.0));
    assert!(state.drops().iter().all(|(_, rate, sum)| *rate == 0.0 && *sum > 0));
    // A counter that begins again gives no rate either.
    state.take(reading(5));
    assert!(state.services().iter().all(|line| line.new == 0.0));
}

#[test]
fn a_frame_that_is_too_narrow_is_refused_and_one_without_daemon_says_so() {
    let refused = text(&state(Sort::New), NARROWEST - 1, 24).unwrap_err().to_string();
    assert!(refused.contains("40 are the fewest"), "{refused}");
    let empty = BTreeMap::new();
    let reading = Reading { is_unnamed: true, services: empty, live: None, ..reading(3) };
    let state = State::new(Sort::New, reading);
    assert!(text(&state, 80, 24).unwrap().contains("no daemon"));
}

#[test]
fn numbers_have_at_most_six_characters() {
    let numbers = [
        (0.0, "0"),
        (0.26, "0.3"),
        (9.96, "10.0"),
        (950.4, "950"),
        (12_345.0, "12.3k"),
        (4e6, "4.0M"),
        (9.9e14, "990.0T"),
    ];
    for (number, expected) in numbers {
        assert_eq!(short(number), expected);
    }
}
