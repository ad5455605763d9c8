//! `up`: keeps a cluster that is as requested; otherwise removes it and makes a new one.

use anyhow::Result;

use super::args::Up;
use super::down::{alone, is_anything_left, remove};
use super::preflight;
use super::running::Running;
use super::settings::Settings;
use super::state::State;
use super::steps::Steps;
use super::whole::Cluster;

pub fn up(settings: &Settings, options: &Up) -> Result<()> {
    preflight::check(settings, options)?;
    let _alone = alone(settings)?;
    if is_running(settings, options) {
        eprintln!("the cluster is up already: {}", options.words());
        return Ok(());
    }
    if is_anything_left(settings) {
        eprintln!("leftovers of another cluster are removed first");
        remove(settings)?;
    }
    eprintln!("making a cluster: {}", options.words());
    let mut steps = Steps::new(true);
    let cluster = Cluster::up(settings, options, &mut steps)?;
    State::new(settings, options, &steps)?.write(settings)?;
    cluster.leave();
    eprintln!("the cluster is up; cargo xtask cluster kubectl get pods -A");
    Ok(())
}

fn is_running(settings: &Settings, options: &Up) -> bool {
    State::read(settings).is_some_and(|state| state.is_of(settings, options))
        && Running::open(settings).and_then(|running| running.check()).is_ok()
}
