//! Commands to type while the show is kept: every line works as printed, in another terminal.

use anyhow::Result;

use super::Kubernetes;
use super::kubectl::NAMESPACE;
use crate::cgroup;
use crate::cluster::addresses::node;
use crate::topology::Family;

pub(super) fn lines(environment: &Kubernetes) -> Result<String> {
    let settings = environment.show_cluster.settings();
    let (hub, client, n1) = (settings.host("hub"), settings.host("client"), settings.host("n1"));
    let kubectl = settings.bin.join("kubectl").display().to_string();
    let kubeconfig = settings.admin().display().to_string();
    let procs = cgroup::mount_point()?.join(&settings.name).join("n1/agents/cgroup.procs");
    let pod = environment.in_pod.pid();
    let inside = [Family::V4, Family::V6].map(|family| environment.tcp.inside(family));
    let outside = environment.tcp.at(node(1).of(Family::V4));
    Ok(format!(
        "  kubectl() {{ ip netns exec {hub} env KUBECONFIG={kubeconfig} {kubectl} -n {NAMESPACE} \"$@\"; }}

  # the pods, and further changes
  kubectl get pods,services,endpointslices -o wide
  kubectl scale deployment web --replicas=4
  kubectl rollout restart deployment web
  kubectl delete pod -l app=web --wait=false

  # from outside by NodePort, from the pod client by ClusterIP, from node n1 itself
  ip netns exec {client} curl -s http://{outside}/
  nsenter --net --target {pod} curl -s http://{}/
  nsenter --net --target {pod} curl -s 'http://{}/'
  sh -c 'echo $$ > {procs}; exec ip netns exec {n1} curl -s http://{}/'

  # what svc knows and does on a node
  kubectl -n kube-system exec daemonset/svc -- /svc-ctl status
  kubectl -n kube-system exec daemonset/svc -- /svc-ctl get services
",
        inside[0],
        inside[1],
        inside[0],
        procs = procs.display()
    ))
}
