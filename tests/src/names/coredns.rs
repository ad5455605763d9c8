//! The real CoreDNS on a stub API server, both on the loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hickory_server::proto::op::ResponseCode;

use super::ask::{Transport, ask};
use super::free_address;
use crate::scale::process::Process;
use crate::scale::store::Store;
use crate::scale::stub_api::StubApi;
use crate::wait;

/// CoreDNS listens at the latest 5 s after its start, with or without data.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct CoreDns {
    pub address: SocketAddr,
    child: Child,
    folder: PathBuf,
    _api: StubApi,
}

impl CoreDns {
    /// `plugins` are added to the Corefile beside `kubernetes`. `known` is a name that it has once it knows
    /// everything.
    pub fn start(program: &Path, store: Store, plugins: &str, known: &str) -> Result<Self> {
        let api = StubApi::start_here(store)?;
        let address = free_address()?;
        let folder =
            std::env::temp_dir().join(format!("svc-names-{}-{}", std::process::id(), address.port()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let zones = "cluster.local in-addr.arpa ip6.arpa";
        let corefile = format!(
            "{zones} {{\n bind 127.0.0.1\n kubernetes {zones} {{\n endpoint {}\n }}\n {plugins}\n}}\n",
            api.url()
        );
        let path = folder.join("Corefile");
        fs::write(&path, corefile).with_context(|| path.display().to_string())?;
        let log = fs::File::create(folder.join("log")).context("its log")?;
        let mut command = Command::new(program);
        command.arg("-conf").arg(&path).arg("-dns.port").arg(address.port().to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let running = Self { address, child, folder, _api: api };
        wait::until("CoreDNS knows everything", PATIENCE, || {
            let said = ask(running.address, known, "A", Transport::Tcp, None);
            Ok(said.ok().filter(|said| said.code == ResponseCode::NoError && !said.answers.is_empty()))
        })?;
        Ok(running)
    }

    pub fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for CoreDns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
