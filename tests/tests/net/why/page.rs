//! The transcripts of docs/why.md: each is the output of `svc-ctl why` on a node like that.

use std::net::SocketAddr;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use socket2::{Domain, Socket, Type};
use svc_tests::daemon::Flags;
use svc_tests::run_name::workspace_dir;
use svc_tests::topology::{Addrs, Options};
use svc_tests::wait;
use svc_tests::world::{CHANGE_LIMIT, World};

const PAGE: &str = "docs/why.md";
/// The prompt of a transcript.
const PROMPT: &str = "    $ svc-ctl why ";
/// The flow that the page shows as a live one, and one that only lets the kernel resolve the next hop.
const DIALLED: &str = "192.0.2.1:30083";
const LIVE: &str = "192.0.2.9:41000";
const EARLIER: &str = "192.0.2.9:41001";

pub fn trial() -> Trial {
    Trial::test("why: the packets of docs/why.md have the answers that the page shows", || {
        let mut world = world().map_err(|error| Failed::from(format!("no world: {error:#}")))?;
        compare(&mut world).map_err(|error| format!("{error:#}\n{}", world.diagnosis()).into())
    })
}

fn world() -> Result<World> {
    let mut world = World::new("why-page", Options::default())?;
    for last in [11, 12] {
        let addrs = Addrs { v4: [10, 244, 1, last].into(), v6: format!("fd00:10:244:1::{last}").parse()? };
        world.topology.node_mut(1).add_pod_at(&(last - 10).to_string(), addrs)?;
    }
    // A usual node forwards what no rule drops.
    world.topology.node(1).host.netns.nft("add chain inet strict forward { policy accept; }")?;
    world.folder.write("shop.yaml", include_str!("page.yaml"))?;
    world.start(Flags { xdp: "off", ..Flags::default() })?;
    Ok(world)
}

/// Sends a SYN to the NodePort; no server answers.
fn dial(world: &World, from: &str) -> Result<Socket> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse()?, DIALLED.parse()?);
    world.topology.client.netns.within(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&from.into())?;
        let begun = socket.connect(&to.into());
        ensure!(
            begun.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINPROGRESS)),
            "{begun:?}"
        );
        Ok(socket)
    })
}

/// Output of a command, indented as on the page.
fn transcript(world: &mut World, packet: &str) -> Result<String> {
    let (node, daemon) = world.on_node(1)?;
    let mut command = node.host.command(daemon.binary())?;
    command.arg("why").arg(packet.trim_matches('\'')).arg("--run-dir").arg(daemon.run_dir());
    let output = command.arg("--pin-dir").arg(daemon.pins()).output().context("start svc-ctl why")?;
    ensure!(output.stderr.is_empty(), "{packet}: {}", String::from_utf8_lossy(&output.stderr));
    let code = output.status.code().context("svc-ctl why was killed")?;
    let text = format!("{}# exit {code}", String::from_utf8_lossy(&output.stdout));
    let indented = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") };
    Ok(format!("{PROMPT}{packet}\n{}", text.lines().map(indented).collect::<String>()))
}

/// The text without the parts that differ from run to run: the neighbor's address, a chosen source port, an age.
fn stable(text: &str) -> String {
    let word = |word: &str| {
        let is_mac = word.split(':').count() == 6 && word.len() >= 17;
        let is_port =
            word.strip_prefix("192.0.2.1:").is_some_and(|port| !port.starts_with("300") && port != "22");
        match word {
            _ if is_mac => "MAC".to_owned(),
            _ if is_port && !word.contains('/') => "192.0.2.1:PORT".to_owned(),
            word => word.to_owned(),
        }
    };
    let line = |line: &str| {
        let words = line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        match words
            .split_once("last packet ")
            .and_then(|(before, rest)| Some((before, rest.split_once(" s ago")?.1)))
        {
            Some((before, after)) => format!("{before}last packet N s ago{after}"),
            None => words,
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn compare(world: &mut World) -> Result<()> {
    let page = fs::read_to_string(workspace_dir().join(PAGE)).context(PAGE)?;
    wait::until_true("the Services are served", CHANGE_LIMIT, || {
        Ok(transcript(world, &format!("'192.0.2.9 -> {DIALLED}'"))
            .is_ok_and(|text| text.contains("forwarded")))
    })?;
    let _earlier = dial(world, EARLIER)?;
    wait::until_true("the next hop is resolved", CHANGE_LIMIT, || {
        Ok(transcript(world, &format!("'192.0.2.9 -> {DIALLED}'"))?.contains("next hop "))
    })?;
    let _live = dial(world, LIVE)?;
    let mut written = page.clone();
    let mut differing = Vec::new();
    for packet in page.lines().filter_map(|line| line.strip_prefix(PROMPT)) {
        let start = page.find(&format!("{PROMPT}{packet}\n")).context("no transcript")?;
        let shown = page.get(start..).and_then(|rest| Some(rest.split_once("# exit ")?.0.len()));
        let end = start + shown.with_context(|| format!("{packet}: no exit code"))?;
        let line_end = end + page.get(end..).and_then(|rest| rest.find('\n')).context("no end of line")? + 1;
        let old = page.get(start..line_end).context("no transcript")?;
        let new = transcript(world, packet)?;
        if stable(old) != stable(&new) {
            written = written.replacen(old, &new, 1);
            differing.push(new);
        }
    }
    if env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        return fs::write(workspace_dir().join(PAGE), written).context(PAGE);
    }
    ensure!(page.matches(PROMPT).count() >= 10, "the page lacks packets");
    ensure!(
        differing.is_empty(),
        "{PAGE} is out of date (UPDATE_EXPECT=1 rewrites it):\n{}",
        differing.join("\n")
    );
    Ok(())
}
