//! `svc-ctl top --once` and `svc-ctl sysdump` beside a daemon that serves.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use svc_tests::agent::Via;
use svc_tests::command;
use svc_tests::daemon::Flags;
use svc_tests::testbed::{Testbed, scenario};
use svc_tests::topology::{Family, Options};

pub fn trials() -> Vec<Trial> {
    let near = |test: &str| Testbed::new(test, Options::default(), Flags::default(), &["near"]);
    vec![
        scenario("top prints a frame of Services and programs, and refuses what is no terminal", near, top),
        scenario("sysdump has every part that this node can give, and names the others", near, sysdump),
    ]
}

fn top(testbed: &mut Testbed) -> Result<()> {
    testbed.answered_by("near", "client", Via::Tcp, testbed.node_port(Family::V4))?;
    let (node, daemon) = testbed.world.on_node(1)?;
    let frame =
        command::run(&mut daemon.command(node, &["top", "--once", "--period", "0.2", "--columns", "80"])?)?;
    for part in ["default/web:tcp/TCP", "NEW/s", "connect4", "pod_egress"] {
        ensure!(frame.contains(part), "no {part} in:\n{frame}");
    }
    for (arguments, reason) in [
        (&["top"][..], "is no terminal"),
        (&["top", "--once", "--columns", "39"][..], "40 are the fewest"),
        (&["top", "--once", "--period", "0"][..], "--period 0"),
    ] {
        let output = daemon.command(node, arguments)?.output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && text.contains(reason), "{arguments:?}: {text}");
    }
    Ok(())
}

fn sysdump(testbed: &mut Testbed) -> Result<()> {
    let (node, daemon) = testbed.world.on_node(1)?;
    let path = std::env::temp_dir().join(format!("svc-sysdump-net-{}.tar.gz", std::process::id()));
    let mut command = daemon.command(node, &["sysdump"])?;
    let made = command::run(command.arg(&path));
    let index = made.and_then(|_| {
        command::run(std::process::Command::new("tar").arg("xzOf").arg(&path).arg("svc-sysdump/index.txt"))
    });
    let _ = std::fs::remove_file(&path);
    let index = index?;
    let whole = ["status.json", "services.json", "backends.json", "flows.json", "affinity.json", "diff.json"];
    for part in whole.into_iter().chain(["programs.txt", "features.json", "ip/link.txt"]) {
        let has = index.lines().any(|line| {
            let size = line.strip_prefix(part).and_then(|rest| rest.strip_prefix(": "));
            size.is_some_and(|size| size.ends_with(" octets") && size != "0 octets")
        });
        ensure!(has, "{part} is not in:\n{index}");
    }
    Ok(())
}
