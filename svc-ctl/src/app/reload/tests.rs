//! The configuration file changes under a daemon: the settings in force afterwards, and the complaints.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::*;
use crate::cli::run::Invocation;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/// A file, the reloader that follows it, and its complaints.
struct Bench {
    folder: PathBuf,
    reloader: Option<Reloader>,
    settings: watch::Receiver<Settings>,
    in_force: watch::Receiver<ConfigurationInForce>,
    ledger: Ledger,
    level: Arc<AtomicU8>,
}

impl Bench {
    fn new(test: &str, text: &str, typed: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("svc-reload-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.conf");
        fs::write(&file, format!("{HEAD}{text}")).unwrap();
        let config = format!("--config={}", file.display());
        let arguments = ["svc-ctl", "run", &config].iter().chain(typed).map(Into::into).collect();
        let invocation = Invocation { arguments, file: Some(file) };
        let config = invocation.config().unwrap();
        let (settings_out, settings) = watch::channel(config.settings.clone());
        let (in_force_out, in_force) = watch::channel(config.in_force.clone());
        let (ledger, level) = (Ledger::default(), Arc::new(AtomicU8::new(config.verbosity)));
        let known = Arc::clone(&level);
        let log_level = Box::new(move |verbosity| known.store(verbosity, Ordering::Relaxed));
        let reload = Reload { read: Box::new(move || invocation.config()), log_level };
        let reloader = Reloader {
            load_balancer: watch::Sender::default(),
            config,
            reload,
            settings: settings_out,
            in_force: in_force_out,
            ledger: ledger.clone(),
        };
        Self { folder, reloader: Some(reloader), settings, in_force, ledger, level }
    }

    /// Writes the file, and reloads it.
    fn change(&mut self, text: &str) {
        fs::write(self.folder.join("config.conf"), format!("{HEAD}{text}")).unwrap();
        let reloader = self.reloader.as_mut().unwrap();
        let read = (reloader.reload.read)();
        reloader.take(read);
    }

    fn complaints(&self) -> Vec<String> {
        let complaints = self.ledger.get(&Origin::Configuration);
        assert!(complaints.iter().all(|complaint| complaint.kind == Kind::Configuration));
        let after_path = |text: String| text.split_once(".conf: ").unwrap().1.to_owned();
        complaints.iter().map(|complaint| after_path(complaint.to_string())).collect()
    }

    fn flag(&self, name: &str) -> Option<String> {
        self.in_force.borrow().flags.get(name).cloned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn sem_250_settings_of_the_plan_and_the_log_change_at_once() {
    let mut bench = Bench::new("live", "mode: nftables\n", &[]);
    bench.change(
        "mode: nftables\nnftables: {masqueradeAll: true}\nnodePortAddresses: [primary]\nlogging: {verbosity: 4}\n",
    );
    assert_eq!(bench.complaints(), [""; 0]);
    let settings = bench.settings.borrow_and_update().clone();
    assert!(settings.masquerade.all && settings.node_port_addresses.primary, "{settings:?}");
    assert_eq!(bench.level.load(Ordering::Relaxed), 4);
    let of = |name| bench.flag(name);
    assert_eq!(
        [of("masquerade-all"), of("nodeport-addresses"), of("v")].map(Option::unwrap),
        ["true", "primary", "4"]
    );
    let document = Arc::clone(&bench.in_force.borrow().document);
    assert_eq!(document["nodePortAddresses"], serde_json::json!(["primary"]));
    assert_eq!(document["nftables"]["masqueradeAll"], true);
    // A removed line means the default.
    bench.change("mode: nftables\n");
    assert_eq!(bench.settings.borrow().clone(), Settings::default());
    assert_eq!(bench.flag("masquerade-all").unwrap(), "false");
}

#[test]
fn sem_250_settings_that_need_a_restart_are_named_and_wait_for_it() {
    let mut bench = Bench::new("restart", "oomScoreAdj: 5\n", &["--masquerade-all=true"]);
    bench.change(
        "oomScoreAdj: 6\niptables: {masqueradeAll: false}\n---\napiVersion: svc/v1alpha1\n\
         kind: SvcConfiguration\nserviceCIDR: 10.96.0.0/16\n",
    );
    // Typed flags have precedence over the file, so masqueradeAll is no change.
    assert_eq!(
        bench.complaints(),
        [
            "--oom-score-adj: \"6\" needs a restart of svc; \"5\" is in force until then",
            "--service-cidr: \"10.96.0.0/16\" needs a restart of svc; \"\" is in force until then",
        ]
    );
    assert!(bench.settings.borrow().service_cidrs.0.is_empty() && bench.settings.borrow().masquerade.all);
    assert_eq!(bench.flag("oom-score-adj").unwrap(), "5");
    bench.change("oomScoreAdj: 5\n");
    assert_eq!(bench.complaints(), [""; 0]);
}

#[test]
fn service_cidrs_change_at_once_where_there_were_some_before() {
    let own = |cidr| format!("---\napiVersion: svc/v1alpha1\nkind: SvcConfiguration\nserviceCIDR: {cidr}\n");
    let mut bench = Bench::new("cidrs", &own("10.96.0.0/16"), &[]);
    bench.change(&own("10.97.0.0/16"));
    assert_eq!(bench.complaints(), [""; 0]);
    assert_eq!(bench.settings.borrow().service_cidrs, "10.97.0.0/16".parse().unwrap());
}

#[test]
fn pools_count_at_once() {
    let own = |pools: &str| {
        format!("---\napiVersion: svc/v1alpha1\nkind: SvcConfiguration\nloadBalancer: {{pools: [{pools}]}}\n")
    };
    let pool = |net| format!("{{name: front, addresses: [{net}]}}");
    for (name, at_first) in [("first", ""), ("other", pool("192.0.2.0/28").as_str())] {
        let mut bench = Bench::new(&format!("pools-{name}"), &own(at_first), &[]);
        bench.change(&own(&pool("192.0.2.64/28")));
        assert_eq!(bench.complaints(), [""; 0]);
        let pools = bench.reloader.as_ref().unwrap().load_balancer.borrow().pools.clone();
        assert!(pools.of("192.0.2.64".parse().unwrap()).is_some(), "{name}: {pools:?}");
    }
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_is_named() {
    let mut bench = Bench::new("broken", "iptables: {masqueradeAll: true}\n", &[]);
    bench.change("iptables: [\n");
    let complaints = bench.complaints();
    assert!(
        complaints[0]
            .starts_with("it cannot be used; the earlier configuration stays in force: did not find"),
        "{complaints:?}"
    );
    assert!(bench.settings.borrow().masquerade.all);
    bench.change("iptables: {masqueradeAll: true}\nnodePortAddresses: [everywhere]\n");
    let complaints = bench.complaints();
    assert!(complaints.len() == 1 && complaints[0].starts_with("nodePortAddresses"), "{complaints:?}");
}

/// As kubelet replaces a ConfigMap: the file is a link into a folder that a second link names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_map_that_is_replaced_is_noticed() {
    use std::os::unix::fs::symlink;

    let mut bench = Bench::new("configmap", "", &[]);
    let folder = bench.folder.clone();
    for (name, text) in [("one", ""), ("two", "iptables: {masqueradeAll: true}\n")] {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("config.conf"), format!("{HEAD}{text}")).unwrap();
    }
    fs::remove_file(folder.join("config.conf")).unwrap();
    symlink("one", folder.join("..data")).unwrap();
    symlink("..data/config.conf", folder.join("config.conf")).unwrap();
    let task = tokio::spawn(bench.reloader.take().unwrap().run());
    let replace = async {
        // Until the folder is watched nothing is noticed before the next look, so it is replaced again and again.
        loop {
            symlink("two", folder.join("..data_tmp")).unwrap();
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let noticed = bench.settings.wait_for(|settings| settings.masquerade.all);
    tokio::select! {
        () = replace => {}
        noticed = timeout(Duration::from_secs(20), noticed) => assert!(noticed.is_ok(), "it was not noticed"),
    }
    task.abort();
}
