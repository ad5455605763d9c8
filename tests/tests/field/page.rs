//! `tests/FIELD.md`: every case's rows as a page.

use std::fmt::Write as _;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::run_name::workspace_dir;

use crate::before::{BEFORE, before};
use crate::case::{Case, ClientOutcome, Target, Way};

const FILE: &str = "tests/FIELD.md";

const HEAD: &str = "# svc beside other software on a node

Written by `UPDATE_EXPECT=1 cargo xtask test field 'the page'` from the cases of `tests/tests/field`; not by hand. Each row is played three times,
over TCP and UDP, IPv4 and IPv6: without a proxy, with DNAT by nft as the control, and with svc. Without a proxy the client
dials the server's own address. [docs/coexistence.md](../docs/coexistence.md) has the cases in words, by the same numbers.

## Cases

A case's clients are answered by the backend unless its column says otherwise. The column \"besides\" has its further checks: \"each way\" holds
in all three, or says what differs. \"svc before\" is what svc did when the case was found; a dash: nothing was tried. R22 is played in
one sequence, from kube-proxy's rules to svc, and has no row here. R18, R19, R42 and R43 have svc alone as their subject: docs/coexistence.md
names their tests.

| case | besides | without a proxy | control | svc before | svc now |
|---|---|---|---|---|---|
";

const DETAILS: &str = "
## Clients

| case | client | dials | without a proxy | nft | svc |
|---|---|---|---|---|---|
";

/// Compares the page with the cases.
pub fn trial(cases: &[Case]) -> Trial {
    let text = page(cases);
    Trial::test("the page of cases has every row", move || {
        compare(&text?).map_err(|error| format!("{error:#}").into())
    })
}

fn compare(text: &str) -> Result<()> {
    let path = workspace_dir().join(FILE);
    if env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        fs::write(&path, text).context(FILE)?;
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    ensure!(known == text, "{FILE} is out of date; with UPDATE_EXPECT=1 it is rewritten");
    Ok(())
}

fn page(cases: &[Case]) -> Result<String, String> {
    let unused = BEFORE.iter().find(|(begin, _)| !cases.iter().any(|case| case.name.starts_with(begin)));
    if let Some((begin, _)) = unused {
        return Err(format!("no case begins with {begin:?}"));
    }
    let mut text = HEAD.to_owned();
    for case in cases {
        let [direct, nft, svc] = Way::ALL.map(|way| summary(case, way));
        let (name, besides) = (&case.name, besides(case));
        let before = before(name);
        writeln!(text, "| {name} | {besides} | {direct} | {nft} | {before} | {svc} |")
            .map_err(|error| error.to_string())?;
    }
    text += DETAILS;
    for case in cases {
        for row in &case.rows {
            let (to, _) = row.in_way(Way::Svc);
            let [direct, nft, svc] = Way::ALL.map(|way| outcome(row.in_way(way).1));
            let name = &case.name;
            writeln!(text, "| {name} | {} | {} | {direct} | {nft} | {svc} |", row.client, target(to))
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(text)
}

/// The checks beyond who answered.
fn besides(case: &Case) -> String {
    let each = case.each.map(|(sentence, _)| format!("each way: {sentence}"));
    let also = case.also.map(|(sentence, _)| format!("svc: {sentence}"));
    let all: Vec<String> = each.into_iter().chain(also).collect();
    if all.is_empty() { "-".to_owned() } else { all.join("; ") }
}

/// The number of rows that a server answers, and each other one.
fn summary(case: &Case, way: Way) -> String {
    let mut others = Vec::new();
    for row in &case.rows {
        let (to, met) = row.in_way(way);
        if !matches!(met, ClientOutcome::Server(_)) {
            others.push(format!("{} to {}: {}", row.client, target(to), outcome(met)));
        }
    }
    let (all, answered) = (case.rows.len(), case.rows.len() - others.len());
    match others.is_empty() {
        true => "answered".to_owned(),
        false => format!("{answered} of {all} answered; {}", others.join("; ")),
    }
}

fn target(target: Target) -> String {
    match target {
        Target::Own(host) => format!("`{host}` itself"),
        Target::ClusterIp(service) => format!("ClusterIP of `{service}`"),
        Target::External(service) => format!("external address of `{service}`"),
        Target::NodePort(service) => format!("NodePort of `{service}`"),
        Target::NodePortAt(service, addrs) => format!("NodePort of `{service}` at {}", addrs.v4),
    }
}

fn outcome(outcome: ClientOutcome) -> String {
    match outcome {
        ClientOutcome::Server(name) => format!("`{name}` answers"),
        ClientOutcome::Refusal => "refused".to_owned(),
        ClientOutcome::Silence => "silence".to_owned(),
        ClientOutcome::NoAnswer => "no answer".to_owned(),
        ClientOutcome::Unreachable => "ICMP error".to_owned(),
    }
}
