//! All adversaries.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use svc_tests::agent::Via;
use svc_tests::bpffs::BpfFs;
use svc_tests::testbed::Testbed;
use svc_tests::topology::Family;
use svc_tests::wait;
use svc_tests::world::CHANGE_LIMIT;

use crate::adversary::{Adversary, Disturbance};

/// Length of each part of the mixture, at least.
const PART: Duration = Duration::from_secs(1);
/// A second daemon gives up within this time.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(10);

pub fn all() -> Vec<Adversary> {
    let mixture =
        Adversary { name: "all of it that cuts nothing, in a random order", cuts: None, disturbance: mixed };
    alone().into_iter().chain([mixture]).collect()
}

/// Adversaries that do one thing.
fn alone() -> Vec<Adversary> {
    let one = |name, disturbance: Disturbance| Adversary { name, cuts: None, disturbance };
    vec![
        one("the daemons are killed, again and again", killed),
        one("the daemons stand still (SIGSTOP)", stopped),
        one("one of two endpoints goes and comes, as fast as manifests are read", endpoints_change),
        Adversary {
            cuts: Some("no endpoint for a moment"),
            ..one("all endpoints go, and come back within 100 ms", endpoints_blink)
        },
        one("pods come and go", pods_come_and_go),
        one("an interface comes back under its name with another index", relinked),
        one("addresses of the node come and go", addresses_change),
        one("the pins are deleted", unpinned),
        one("the bpffs is unmounted", unmounted),
        one("another daemon wants the same pins", rivalled),
        one("the folder of manifests is away", without_folder),
        one("the Node objects are deleted and made again", without_nodes),
        Adversary {
            cuts: Some("no forwarding for a moment"),
            ..one("forwarding is off and on again", forwarding_off)
        },
    ]
}

#[expect(clippy::disallowed_methods, reason = "the length of a disturbance, and no fact to wait for")]
fn lasts(time: Duration) {
    thread::sleep(time);
}

/// Acts again and again.
fn until_over(length: Duration, mut act: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        act()?;
    }
    Ok(())
}

fn killed(testbed: &mut Testbed, length: Duration) -> Result<()> {
    until_over(length, || {
        (1..=2).try_for_each(|node| testbed.world.daemon(node)?.kill())?;
        (1..=2).try_for_each(|node| testbed.world.restart(node))
    })
}

fn stopped(testbed: &mut Testbed, length: Duration) -> Result<()> {
    (1..=2).try_for_each(|node| testbed.world.daemon(node)?.signal(Signal::SIGSTOP))?;
    lasts(length);
    (1..=2).try_for_each(|node| testbed.world.daemon(node)?.signal(Signal::SIGCONT))
}

fn endpoints_change(testbed: &mut Testbed, length: Duration) -> Result<()> {
    let changed = until_over(length, || {
        testbed.set_backends(&["near"])?;
        testbed.set_backends(&["near", "far"])
    });
    changed.and_then(|()| testbed.set_backends(&["near", "far"]))
}

fn endpoints_blink(testbed: &mut Testbed, length: Duration) -> Result<()> {
    until_over(length, || {
        testbed.set_backends(&[])?;
        lasts(Duration::from_millis(50));
        testbed.set_backends(&["near", "far"])?;
        lasts(Duration::from_millis(500));
        Ok(())
    })
}

fn pods_come_and_go(testbed: &mut Testbed, length: Duration) -> Result<()> {
    let mut known = None;
    until_over(length, || {
        let node = testbed.world.topology.node_mut(2);
        let pod = match known {
            Some(addrs) => node.add_pod_at("guest", addrs)?,
            None => node.add_pod("guest")?,
        };
        known = Some(pod.host.addrs);
        let interface = pod.interface.clone();
        is_served(testbed, "guest")?;
        let node = testbed.world.topology.node_mut(2);
        // The kernel deletes it together with the pod's network namespace, but later.
        node.host.netns.ip(&format!("link delete {interface}"))?;
        node.remove_pod("guest");
        Ok(())
    })
}

fn relinked(testbed: &mut Testbed, length: Duration) -> Result<()> {
    until_over(length, || {
        testbed.world.topology.node(1).relink("spare")?;
        is_served(testbed, "spare")
    })
}

/// Waits until the pod's connections to the Service succeed.
fn is_served(testbed: &Testbed, pod: &str) -> Result<()> {
    for family in Family::BOTH {
        let to = testbed.cluster_ip(family);
        wait::until_true(&format!("{pod} is answered at {to}"), CHANGE_LIMIT, || {
            testbed.agent(pod)?.ask(Via::Tcp, to, 1).map(|_| true)
        })?;
    }
    Ok(())
}

fn addresses_change(testbed: &mut Testbed, length: Duration) -> Result<()> {
    // The deprecated one is no source of the node's own connections, which would end with it.
    let more = ["192.0.2.77/24", "2001:db8:1::77/64 nodad preferred_lft 0"];
    let node = &testbed.world.topology.node(1).host.netns;
    let change =
        |verb: &str| more.iter().try_for_each(|addr| node.ip(&format!("addr {verb} {addr} dev eth0")));
    until_over(length, || {
        change("add")?;
        change("del")
    })
}

fn unpinned(testbed: &mut Testbed, length: Duration) -> Result<()> {
    pinned_again(testbed, length, |testbed| {
        for node in 1..=2 {
            BpfFs::pins(testbed.world.daemon(node)?.pins()).iter().try_for_each(fs::remove_file)?;
        }
        Ok(())
    })
}

fn unmounted(testbed: &mut Testbed, length: Duration) -> Result<()> {
    pinned_again(testbed, length, |testbed| {
        BpfFs::renew(testbed.world.daemon(1)?.pins().parent().context("the daemons' bpffs")?)
    })
}

/// Removes pins, and waits until they are there again, again and again.
fn pinned_again(
    testbed: &mut Testbed,
    length: Duration,
    remove: fn(&mut Testbed) -> Result<()>,
) -> Result<()> {
    let count = |testbed: &mut Testbed| -> Result<usize> {
        let dirs = (1..=2).map(|node| Ok(testbed.world.daemon(node)?.pins().to_owned()));
        let dirs = dirs.collect::<Result<Vec<_>>>()?;
        let pins = dirs.iter().flat_map(|dir| BpfFs::pins(dir));
        // Programs are pinned again when they are needed.
        Ok(pins.filter(|pin| !pin.iter().any(|part| part == "programs")).count())
    };
    let before = count(testbed)?;
    ensure!(before > 0, "nothing was pinned");
    until_over(length, || {
        remove(testbed)?;
        wait::until_true("everything is pinned again", GIVE_UP_LIMIT, || Ok(count(testbed)? >= before))
    })
}

fn rivalled(testbed: &mut Testbed, length: Duration) -> Result<()> {
    until_over(length, || {
        let run_dir = testbed.world.dir().join("rival");
        let (node, daemon) = testbed.world.on_node(1)?;
        let mut rival = daemon.rival(&run_dir)?;
        rival.start(node)?;
        wait::until_true("the second daemon gives up", GIVE_UP_LIMIT, || Ok(rival.ended()))?;
        ensure!(rival.exit_code()? != Some(0), "a second daemon ended as if it had served");
        Ok(())
    })
}

fn without_folder(testbed: &mut Testbed, length: Duration) -> Result<()> {
    let folder = testbed.world.folder.path().to_owned();
    let away = folder.with_extension("away");
    fs::rename(&folder, &away).context("move the folder of manifests")?;
    lasts(length);
    fs::rename(&away, &folder).context("move the folder of manifests back")
}

fn without_nodes(testbed: &mut Testbed, length: Duration) -> Result<()> {
    until_over(length, || {
        testbed.world.folder.remove("nodes.yaml")?;
        lasts(Duration::from_millis(300));
        testbed.world.folder.write_nodes(&testbed.world.topology.nodes)?;
        lasts(Duration::from_millis(300));
        Ok(())
    })
}

fn forwarding_off(testbed: &mut Testbed, length: Duration) -> Result<()> {
    let names = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
    let node = &testbed.world.topology.node(1).host.netns;
    let set = |value| names.iter().try_for_each(|name| node.sysctl(&[(name, value)]));
    until_over(length, || {
        set("0")?;
        lasts(Duration::from_millis(200));
        set("1")?;
        lasts(Duration::from_millis(800));
        Ok(())
    })
}

fn mixed(testbed: &mut Testbed, length: Duration) -> Result<()> {
    let parts: Vec<Adversary> = alone().into_iter().filter(|one| one.cuts.is_none()).collect();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    until_over(length * 2, || {
        let part = random.choice(&parts).context("a part")?;
        (part.disturbance)(testbed, PART).with_context(|| format!("{}, seed {seed}", part.name))
    })
}
