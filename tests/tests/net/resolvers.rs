//! The C libraries' resolvers, with the resolv.conf that a kubelet writes, ask svc's DNS through its own Service.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use svc_tests::daemon::{Flags, Source};
use svc_tests::testbed::{Testbed, scenario_unless};
use svc_tests::topology::{Addrs, Options, service};
use svc_tests::world::CHANGE_LIMIT;
use svc_tests::{command, wait};

/// A domain that node1 asks node2 for.
const OTHER_DOMAIN: &str = "other.example";

pub fn trials() -> Vec<Trial> {
    vec![
        scenario_unless(
            || compiler("cc", "gcc"),
            "glibc's resolver finds every name by its search list of ndots:5",
            testbed,
            |testbed| finds_everything(testbed, "cc", &[]),
        ),
        scenario_unless(
            || compiler("musl-gcc", "musl-tools"),
            "musl's resolver finds every name by its search list of ndots:5",
            testbed,
            |testbed| finds_everything(testbed, "musl-gcc", &["-static"]),
        ),
    ]
}

fn compiler(program: &str, package: &str) -> Result<Option<String>> {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    Ok((!is_there).then(|| format!("no {program}: apt-get install {package}")))
}

/// Service `web` of both families, `six` of IPv6 alone, headless `db` with the Pod `db-0`, and an alias of `web`.
fn testbed(test: &str) -> Result<Testbed> {
    let mut testbed = Testbed::without_svc(test, Options::default())?;
    testbed.set_backends(&["near"])?;
    let (name_server, six) = (service(53).v4, service(6).v6);
    let node1 = testbed.world.topology.node(1).host.addrs.v4;
    let Addrs { v4, v6 } = testbed.world.topology.host("near")?.addrs;
    testbed.world.folder.write(
        "names.yaml",
        &format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system, annotations: {{svc/dns: 'true'}}}}
spec:
  clusterIP: {name_server}
  internalTrafficPolicy: Local
  ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: kube-dns-4, namespace: kube-system, labels: {{kubernetes.io/service-name: kube-dns}}}}
addressType: IPv4
ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53}}]
endpoints: [{{addresses: [{node1}], nodeName: node1}}]
---
apiVersion: v1
kind: Service
metadata: {{name: six}}
spec: {{clusterIP: '{six}', ipFamilies: [IPv6], ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec: {{clusterIP: None, selector: {{app: db}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: db-0, labels: {{app: db}}}}
spec: {{nodeName: node1, hostname: db-0, subdomain: db, containers: []}}
status: {{podIP: {v4}, podIPs: [{{ip: {v4}}}, {{ip: '{v6}'}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: alias}}
spec: {{type: ExternalName, externalName: web.default.svc.cluster.local}}
"
        ),
    )?;
    let node2 = testbed.world.topology.node(2).host.addrs.v4;
    // The Service asks node1 to answer, a flag node2.
    for more in [
        vec![format!("--dns-upstream={node2}")],
        vec![format!("--dns={node2}"), "--dns-upstream=".into(), format!("--dns-domain={OTHER_DOMAIN}")],
    ] {
        let source = Source::Manifests(testbed.world.folder.path().into());
        testbed.world.start_next_with(source, Flags::default(), more)?;
    }
    (1..=2).try_for_each(|node| testbed.world.ready(node))?;
    Ok(testbed)
}

fn finds_everything(testbed: &mut Testbed, compiler: &str, flags: &[&str]) -> Result<()> {
    let program = compile(&testbed.world.dir(), compiler, flags)?;
    let resolv_conf = testbed.world.dir().join("resolv.conf");
    let search = "default.svc.cluster.local svc.cluster.local cluster.local";
    let text = format!("nameserver {}\nsearch {search}\noptions ndots:5\n", service(53).v4);
    fs::write(&resolv_conf, text)?;
    let (web, six) = (service(10), service(6));
    let near = testbed.world.topology.host("near")?.addrs;
    let both = |addrs: Addrs| format!("{} {}", addrs.v4, addrs.v6);
    let other = format!("web.default.svc.{OTHER_DOMAIN}");
    let cases = [
        ("web", both(web)),
        ("Web.Default", both(web)),
        ("web.default.svc", both(web)),
        ("web.default.svc.cluster.local", both(web)),
        ("web.default.svc.cluster.local.", both(web)),
        ("six", six.v6.to_string()),
        ("db", both(near)),
        ("db-0.db", both(near)),
        ("db-0.db.default.svc.cluster.local", both(near)),
        ("alias", both(web)),
        ("kube-dns.kube-system", service(53).v4.to_string()),
        (&other, both(web)),
        // Names end with a dot: node2 is asked for all other names, and refuses those outside of its domain.
        ("nobody.default.svc.cluster.local.", "none".to_owned()),
        ("db-1.db.default.svc.cluster.local.", "none".to_owned()),
    ];
    wait::until_true(&format!("{compiler} finds every name"), CHANGE_LIMIT, || {
        let names: Vec<&str> = cases.iter().map(|(name, _)| *name).collect();
        let found = resolve(testbed, &program, &resolv_conf, &names)?;
        for ((name, expected), found) in cases.iter().zip(&found) {
            let expected: BTreeSet<&str> = expected.split(' ').collect();
            ensure!(
                *found == expected.iter().map(ToString::to_string).collect(),
                "{name}: {found:?}, not {expected:?}"
            );
        }
        ensure!(found.len() == cases.len(), "{} names, {} answers", cases.len(), found.len());
        Ok(true)
    })
}

fn compile(dir: &Path, compiler: &str, flags: &[&str]) -> Result<PathBuf> {
    let (source, program) = (dir.join("resolve.c"), dir.join("resolve"));
    fs::write(&source, include_str!("resolvers/resolve.c"))?;
    command::run(Command::new(compiler).args(flags).arg("-o").arg(&program).arg(&source))
        .with_context(|| format!("{compiler} of resolve.c"))?;
    Ok(program)
}

/// The addresses that the pod's programs find, a set for each name; the pod sees another /etc/resolv.conf than the host.
fn resolve(testbed: &Testbed, program: &Path, conf: &Path, names: &[&str]) -> Result<Vec<BTreeSet<String>>> {
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let mut command = testbed.world.topology.host("pod")?.command("unshare")?;
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(conf).arg(program).args(names);
    let text = command::run(&mut command)?;
    Ok(text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect())
}
