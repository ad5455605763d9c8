//! `svc-echo`: the test server and the pause program of a cluster's images, in one static file. It handles SIGTERM
//! itself, as the first process of a container must.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::gethostname;

#[derive(Parser)]
#[command(about = "A test server that reports its name and its peer's address")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Answer each line (TCP), datagram (UDP) and GET (HTTP) with NAME PEER:PORT and what was said
    Serve(Serve),
    /// Keep a pod's namespaces: reap its processes until SIGTERM
    Pause,
}

#[derive(Args)]
struct Serve {
    /// Listen for lines and HTTP here; may be given again
    #[arg(long, value_name = "PORT")]
    tcp: Vec<u16>,
    /// Listen for datagrams here; may be given again
    #[arg(long, value_name = "PORT")]
    udp: Vec<u16>,
    /// Name in the answers; default: the host name, which in a pod is the pod's
    #[arg(long)]
    name: Option<String>,
    /// After SIGTERM answer each GET with 503 (a probe then reports: not ready) and serve on for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    linger: u64,
}

impl Cli {
    /// Ends with SIGTERM or SIGINT, or an error of the start.
    fn run(self) -> Result<()> {
        // Blocked before there are threads, so that only `wait` gets them. The first process of a PID namespace does
        // not get unhandled signals at all.
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
        signals.thread_block()?;
        let mut linger = Duration::ZERO;
        if let Part::Serve(serve) = self.part {
            linger = Duration::from_secs(serve.linger);
            let name = match serve.name {
                Some(name) => name,
                None => gethostname()?.to_string_lossy().into_owned(),
            };
            svc_echo::serve(&name, &serve.tcp, &serve.udp)?;
        }
        while signals.wait()? == Signal::SIGCHLD {
            while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|it| it != WaitStatus::StillAlive) {}
        }
        svc_echo::say_not_ready();
        #[expect(
            clippy::disallowed_methods,
            reason = "it serves for a given time, and no event marks the end"
        )]
        thread::sleep(linger);
        Ok(())
    }
}

fn main() -> Result<()> {
    Cli::parse().run()
}
