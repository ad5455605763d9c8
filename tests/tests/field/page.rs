//! `tests/FIELD.md`: every case's rows as a page.

use std::fmt::Write as _;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::run_name::workspace_dir;

use crate::case::{Case, ClientOutcome, Target, Way};

const FILE: &str = "tests/FIELD.md";

const HEAD: &str = "# svc beside other software on a node

Written by `UPDATE_EXPECT=1 cargo xtask test field 'the page'` from the cases of `tests/tests/field`; not by hand. Each row is played three times,
over TCP and UDP, IPv4 and IPv6: without a proxy, with DNAT by nft as the control, and with svc. Without a proxy the client
dials the server's own address. [docs/coexistence.md](../docs/coexistence.md) has the cases in words, by the same numbers.

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
    let mut text = HEAD.to_owned();
    for case in cases {
        for row in &case.rows {
            let (to, _) = row.in_way(Way::Svc);
            let [direct, nft, svc] = [Way::Direct, Way::Nft, Way::Svc].map(|way| outcome(row.in_way(way).1));
            let name = &case.name;
            writeln!(text, "| {name} | {} | {} | {direct} | {nft} | {svc} |", row.client, target(to))
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(text)
}

fn target(target: Target) -> String {
    match target {
        Target::Own(host) => format!("`{host}` itself"),
        Target::ClusterIp(service) => format!("ClusterIP of `{service}`"),
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
