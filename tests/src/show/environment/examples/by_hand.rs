//! Commands to type while the show is kept: every line works as printed, in another terminal.

use std::path::Path;

use anyhow::Result;

use super::CLIENT_POD;
use crate::world::World;

pub(super) fn lines(world: &mut World) -> Result<String> {
    let folder = world.folder.path().display().to_string();
    let client = world.topology.client.netns.name().to_owned();
    let pod = world.topology.host(CLIENT_POD)?.netns.name().to_owned();
    let (node, daemon) = world.on_node(1)?;
    let (binary, pins, run) = (shown(daemon.binary()), shown(daemon.pins()), shown(daemon.run_dir()));
    let (netns, procs) = (node.host.netns.name(), shown(&node.cgroup().join("system/cgroup.procs")));
    Ok(format!(
        "  # from outside by NodePort, by the other node and IPv6, from a pod by ClusterIP, from node1 itself
  ip netns exec {client} curl -s http://192.0.2.1:30080/
  ip netns exec {client} curl -s 'http://[2001:db8:1::2]:30080/'
  ip netns exec {pod} curl -s http://10.96.0.10/
  ip netns exec {pod} dig +short @10.96.0.2 www.default.svc.cluster.local
  ip netns exec {pod} dig +short @10.96.0.2 web-pods.default.svc.cluster.local
  sh -c 'echo $$ > {procs}; exec ip netns exec {netns} curl -s http://10.96.0.10/'

  # what svc knows and does on node1
  {binary} status --run-dir {run} --pin-dir {pins}
  {binary} get services --run-dir {run} --pin-dir {pins}
  {binary} get backends --pin-dir {pins}
  {binary} get flows --run-dir {run} --pin-dir {pins}
  ip netns exec {netns} bpftool net

  # edit what is served, and ask again: a Ready condition of \"False\" takes a Pod out
  $EDITOR {folder}/web.yaml
"
    ))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
