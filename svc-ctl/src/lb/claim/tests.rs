//! Plays claims in steps: facts and messages in, actions and their times out.

use super::*;

static NONE: BTreeSet<String> = BTreeSet::new();

/// Plays a claim of node `a` in steps of 100 ms; `event` may change the facts and messages before each.
fn play(
    candidates: &[&str],
    steps: u64,
    mut event: impl FnMut(u64, &mut Claim, &mut bool),
) -> (Vec<(u64, Action)>, Claim) {
    let candidates: BTreeSet<String> = candidates.iter().map(ToString::to_string).collect();
    let mut claim = Claim::new("192.0.2.1".parse().unwrap(), 0);
    let (mut done, mut may_hold) = (Vec::new(), true);
    for step in 0..steps {
        event(step, &mut claim, &mut may_hold);
        let situation =
            Situation { now: step * 100, node: "a", candidates: &candidates, without_link: &NONE, may_hold };
        done.extend(claim.step(&situation).into_iter().map(|action| (step, action)));
    }
    (done, claim)
}

#[test]
fn sem_308_a_node_takes_an_address_after_three_probes_and_announces_it_each_second_and_then_each_minute() {
    use Action::{Announce, Arm, Probe};
    let (done, claim) = play(&["a"], 1_300, |_, _, _| {});
    let first = [(0, Probe), (1, Probe), (2, Probe), (3, Arm), (3, Announce)];
    let then = [13, 23, 33, 43, 53, 653, 1_253].map(|step| (step, Announce));
    assert_eq!(done, [&first[..], &then].concat());
    assert_eq!((claim.owner(), claim.is_held()), (Some("a"), true));
}

#[test]
fn a_node_leaves_an_address_to_the_node_that_answers_even_if_it_comes_first_by_its_hash() {
    let (done, claim) = play(&["a", "b"], 40, |step, claim, _| {
        if step == 1 {
            claim.hear(OtherHost::Node("b".to_owned()), 100);
        }
    });
    assert!(done.iter().all(|(_, action)| *action == Action::Probe), "{done:?}");
    assert_eq!((claim.owner(), claim.is_held()), (Some("b"), false));
}

#[test]
fn an_address_that_a_foreign_host_has_is_not_announced() {
    let (done, claim) = play(&["a"], 100, |step, claim, _| {
        if step == 1 {
            claim.hear(OtherHost::Foreign([2; 6]), 100);
        }
    });
    assert_eq!(done, [(0, Action::Probe)]);
    assert_eq!(claim.conflict(), Some([2; 6]));
}

#[test]
fn an_address_is_given_up_at_once_with_the_link_and_asked_for_again_when_it_is_back() {
    let (done, _) = play(&["a"], 40, |step, _, may_hold| *may_hold = !(20..30).contains(&step));
    let of = |wanted| done.iter().filter(|(_, a)| *a == wanted).map(|(step, _)| *step).collect::<Vec<_>>();
    assert_eq!(of(Action::Disarm), [20]);
    assert_eq!(of(Action::Arm), [3, 33]);
}

#[test]
fn the_next_in_line_takes_an_address_that_its_owner_does_not_answer_for() {
    let (done, claim) = play(&["a", "b"], 100, |step, claim, _| {
        if step == 0 {
            claim.hear(OtherHost::Node("b".to_owned()), 0);
        }
    });
    assert_eq!(done.first(), Some(&(50, Action::Probe)));
    assert_eq!((claim.owner(), claim.why()), (Some("a"), "b answers no longer"));
}

#[test]
fn two_that_yielded_to_each_other_ask_again() {
    let (done, claim) = play(&["a"], 40, |step, claim, _| {
        if step == 10 {
            claim.yielded(None, 1_000);
        }
    });
    assert!(claim.is_held());
    assert_eq!(done.iter().filter(|(_, action)| *action == Action::Arm).count(), 2);
}

#[test]
fn sem_309_addresses_are_spread_over_nodes_and_stay_when_another_node_goes() {
    let nodes = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let all = nodes(&["a", "b", "c"]);
    let addresses: Vec<IpAddr> = (0..240_u8).map(|n| [192, 0, 2, n].into()).collect();
    for node in ["a", "b", "c"] {
        let share = addresses.iter().filter(|ip| choose(**ip, None, &all) == Some(node)).count();
        assert!((50..=110).contains(&share), "{node}: {share}");
    }
    let rest = nodes(&["a", "b"]);
    for ip in addresses {
        let before = choose(ip, None, &all);
        assert!(before == Some("c") || before == choose(ip, None, &rest));
        assert_eq!(choose(ip, Some("c"), &all), Some("c"));
        assert_ne!(choose(ip, Some("c"), &rest), Some("c"));
    }
}

#[test]
fn an_owner_that_answers_without_its_daemon_is_asked_for_from_time_to_time() {
    let (done, claim) = play(&["a"], 160, |step, claim, _| {
        claim.hear(OtherHost::Node("b".to_owned()), step * 100);
    });
    assert_eq!(done, [0, 50, 100, 150].map(|step| (step, Action::Probe)), "{done:?}");
    assert_eq!(claim.owner(), Some("b"));
}

#[test]
fn an_owner_remembers_a_foreign_host_that_announces_its_address() {
    let (_, claim) = play(&["a"], 40, |step, claim, _| {
        if step == 20 {
            claim.hear(OtherHost::Foreign([2; 6]), 2_000);
        }
    });
    assert_eq!((claim.is_held(), claim.conflict()), (true, None));
    assert_eq!([claim.intruder(4_000), claim.intruder(302_000)], [Some([2; 6]), None]);
}

#[test]
fn an_owner_that_answers_without_its_daemon_for_a_minute_has_a_successor_that_speaks() {
    use Action::{Announce, Arm};
    for address in ["192.0.2.1", "2001:db8::1"] {
        let candidates = BTreeSet::from(["a".to_owned()]);
        let mut claim = Claim::new(address.parse().unwrap(), 0);
        let mut done = Vec::new();
        for step in 0..700 {
            // The programs of b answer until a announces the address.
            if !claim.is_held() {
                claim.hear(OtherHost::Node("b".to_owned()), step * 100);
            }
            let situation = Situation {
                now: step * 100,
                node: "a",
                candidates: &candidates,
                without_link: &NONE,
                may_hold: true,
            };
            done.extend(claim.step(&situation).into_iter().map(|action| (step, action)));
        }
        let taken: Vec<_> = done.iter().filter(|(_, action)| *action == Arm).collect();
        assert_eq!(taken, [&(600, Arm)], "{address}");
        assert!(done.contains(&(600, Announce)));
        assert_eq!((claim.owner(), claim.is_held()), (Some("a"), true));
    }
}

#[test]
fn an_owner_whose_daemon_is_back_within_a_minute_keeps_its_address() {
    let (alone, both) = (BTreeSet::from(["a".to_owned()]), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    let mut claim = Claim::new("192.0.2.1".parse().unwrap(), 0);
    for step in 0..2_000 {
        claim.hear(OtherHost::Node("b".to_owned()), step * 100);
        // Away for 50 seconds, again and again.
        let candidates = if step % 600 < 500 { &alone } else { &both };
        let situation =
            Situation { now: step * 100, node: "a", candidates, without_link: &NONE, may_hold: true };
        assert!(!claim.step(&situation).contains(&Action::Arm), "step {step}");
    }
    assert_eq!(claim.owner(), Some("b"));
}

#[test]
fn an_owner_that_was_suspended_asks_before_it_announces_and_yields_to_a_node_that_answers() {
    use Action::{Announce, Probe};
    for address in ["192.0.2.1", "2001:db8::1"] {
        let candidates = BTreeSet::from(["a".to_owned()]);
        let mut claim = Claim::adopted(address.parse().unwrap(), "a", 0);
        let situation =
            |now| Situation { now, node: "a", candidates: &candidates, without_link: &NONE, may_hold: true };
        let mut step = |now| claim.step(&situation(now));
        let announced = (0..=100).flat_map(|tenths| step(tenths * 100)).count();
        assert_eq!((announced, step(10_100)), (6, Vec::new()), "the next announcement is due after a minute");
        let woken = 3_600_000;
        let done: Vec<_> = (0..5).flat_map(|tenths| step(woken + tenths * 100)).collect();
        assert_eq!(done, [Probe, Probe, Probe, Announce], "{address}");
        assert!(claim.is_held());

        assert_eq!(claim.step(&situation(2 * woken)), [Probe]);
        // The programs have seen the answer.
        claim.yielded(Some("b".to_owned()), 2 * woken);
        assert_eq!(claim.step(&situation(2 * woken + 100)), [Probe], "b is no candidate");
        assert_eq!((claim.owner(), claim.is_held()), (Some("b"), false));
    }
}

#[test]
fn the_successor_of_a_node_without_a_link_asks_nobody_also_if_it_was_asking() {
    use Action::{Announce, Arm, Probe};
    for address in ["192.0.2.1", "2001:db8::1"] {
        let (candidates, b) = (BTreeSet::from(["a".to_owned()]), BTreeSet::from(["b".to_owned()]));
        for (without_link, expected) in [(&NONE, [Probe].as_slice()), (&b, &[Arm, Announce])] {
            let mut claim = Claim::new(address.parse().unwrap(), 0);
            claim.hear(OtherHost::Node("b".to_owned()), 0);
            let situation = |now, without_link| Situation {
                now,
                node: "a",
                candidates: &candidates,
                without_link,
                may_hold: true,
            };
            assert_eq!(claim.step(&situation(100, without_link)), expected, "{address}");
            if expected == [Probe] {
                assert_eq!(claim.step(&situation(150, &b)), [Arm, Announce], "{address}");
            }
            assert_eq!((claim.owner(), claim.why()), (Some("a"), "b has lost its link"), "{address}");
        }
    }
}
