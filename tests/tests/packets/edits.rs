//! Manifests that a trial edits beside the kernel's tables, and the daemon that follows them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use libtest_mimic::{Failed, Trial};
use svc_ctl::sweeper::remove_stale;
use svc_tests::model::world::{Proto, Tuple};
use svc_tests::packet::lab::Lab;
use svc_tests::packet::trial::{Shared, with_lab};

use crate::ask::{self, Fate, Origin};
use crate::played::case::Case;
use crate::played::daemon::Daemon;

/// A trial that has these objects to apply.
pub fn trial(
    lab: &Shared,
    name: String,
    objects: impl Into<String>,
    test: fn(&mut World<'_>) -> Result<()>,
) -> Trial {
    let (lab, objects) = (Shared::clone(lab), objects.into());
    Trial::test(name, move || {
        let ran = with_lab(&lab, |lab| test(&mut World::new(lab, &objects)?));
        ran.map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// A daemon beside empty tables.
pub struct World<'a> {
    pub lab: &'a mut Lab,
    daemon: Daemon,
    objects: Case,
}

impl<'a> World<'a> {
    fn new(lab: &'a mut Lab, objects: &str) -> Result<Self> {
        lab.kernel.clear()?;
        lab.kernel.write_interfaces(true, true, svc_common::abi::IfaceFlags::NONE)?;
        Ok(Self { lab, daemon: Daemon::new(), objects: Case::parse(objects) })
    }

    pub fn apply(&mut self, sections: &[&str]) -> Result<()> {
        self.edit(sections).map(drop)
    }

    /// Writes files; answers how long it took to end flows.
    pub fn edit(&mut self, sections: &[&str]) -> Result<Duration> {
        let maps = &mut self.lab.kernel.store;
        let step = [&["apply"], sections].concat();
        self.daemon.take(&step, &self.objects, maps).map_err(Error::msg)?;
        let begun = Instant::now();
        let in_force = self.daemon.in_force();
        remove_stale(&self.lab.kernel.pins, &in_force)?;
        Ok(begun.elapsed())
    }

    pub fn send(&self, origin: Origin, src: SocketAddr, dst: SocketAddr) -> Result<Fate> {
        ask::later(&self.lab.kernel, origin, Tuple { proto: Proto::Udp, src, dst })
    }
}
