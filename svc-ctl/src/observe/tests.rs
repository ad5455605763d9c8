//! All observers together, during a sweep that does not end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use svc_common::abi::EntryCount;

use super::*;
use crate::sweeper::{EndedSockets, Pass, Sweeper, SweptTables, Table, Translated};

/// Longer than any wait of these tests.
const DEADLINE: Duration = Duration::from_secs(30);

/// A table whose reading lasts until the test ends it.
struct EndlessTable {
    begun: mpsc::Sender<()>,
    end: mpsc::Receiver<()>,
}

impl SweptTables for EndlessTable {
    fn counts(&mut self) -> anyhow::Result<Vec<EntryCount>> {
        Ok(Vec::new())
    }

    fn counters(&mut self) -> anyhow::Result<BTreeMap<String, u64>> {
        Ok(BTreeMap::new())
    }

    fn sweep(&mut self, _: Table, _: Option<&InForce>) -> anyhow::Result<Pass> {
        self.begun.send(())?;
        self.end.recv()?;
        Ok(Pass::default())
    }

    fn end_sockets(&mut self, _: BTreeSet<Translated>) -> anyhow::Result<EndedSockets> {
        Ok(EndedSockets::default())
    }
}

/// Asks `/livez` until there is a listener.
fn livez(address: SocketAddr) -> String {
    let start = Instant::now();
    loop {
        let mut text = String::new();
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(DEADLINE))?;
            write!(stream, "GET /livez HTTP/1.0\r\nhost: test\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
        match asked {
            Ok(_) => return text,
            Err(error) => assert!(start.elapsed() < DEADLINE, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn livez_is_answered_and_the_status_written_while_a_sweep_runs_and_all_workers_are_busy() {
    let run_dir = std::env::temp_dir().join(format!("svc-observe-{}", std::process::id()));
    std::fs::create_dir_all(&run_dir).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = ObserveSettings {
        node: "n1".to_owned(),
        source: "manifests:/nowhere".to_owned(),
        run_dir: run_dir.clone(),
        health: HealthSettings { healthz: Some(address), ..HealthSettings::default() },
        pin_dir: PathBuf::new(),
        most_service_metrics: 0,
        snat_ports: 0,
        measures_programs: false,
    };
    let (_worlds, worlds) = watch::channel(World::default());
    let (progress_out, progress) = watch::channel(Progress::default());
    let (in_force_out, in_force) = watch::channel(InForce::default());
    let (_served, served) = watch::channel(Served::default());
    let (_hooks, hooks) = watch::channel(HooksStatus::default());
    let (sweeps_out, sweeps) = watch::channel(SweepReport::default());
    let ledger = Ledger::default();
    let (begun_out, begun) = mpsc::channel();
    let (release, end) = mpsc::channel();
    let table = EndlessTable { begun: begun_out, end };
    let sweeper = Sweeper::over(table, "n1", in_force.clone(), sweeps_out, ledger.clone()).unwrap();
    let (_configuration, configuration) = watch::channel(ConfigurationInForce::default());
    let (_plan, plan) = watch::channel(Settings::default());
    let inputs = Inputs {
        load_balancer: watch::channel(Count::default()).1,
        peers: watch::channel(PeerCounts::new()).1,
        pools_use: watch::channel(PoolsUse::default()).1,
        dns: None,
        worlds,
        progress,
        in_force,
        served,
        hooks,
        sweeps,
        api: ApiRequests::default(),
        configuration,
        settings: plan,
    };
    let mut parts = Parts::default();
    start(&settings, inputs, &ledger, &mut parts).unwrap();
    begun.recv_timeout(DEADLINE).unwrap();

    progress_out.send_modify(|progress| progress.generation = 7);
    let start = Instant::now();
    while StatusFile::read(&run_dir).map_or(0, |status| status.generation) != 7 {
        assert!(start.elapsed() < DEADLINE, "no status is written");
        tokio::task::yield_now().await;
    }
    let busy: Vec<mpsc::Sender<()>> = (0..2)
        .map(|_| {
            let ((begun_out, begun), (release, end)) = (mpsc::channel(), mpsc::channel::<()>());
            tokio::spawn(async move {
                let _ = begun_out.send(());
                let _ = end.recv();
            });
            begun.recv_timeout(DEADLINE).unwrap();
            release
        })
        .collect();
    assert!(livez(address).contains("200 OK"));

    drop((busy, release, in_force_out));
    tokio::time::timeout(DEADLINE, sweeper.ended()).await.unwrap().unwrap();
    drop(parts);
    std::fs::remove_dir_all(&run_dir).unwrap();
}
