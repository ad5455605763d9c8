//! Links between programs and hooks. Each is held by a descriptor, so that a deleted pin detaches nothing, and
//! pinned, so that it outlives the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, bail};
use nix::net::if_::if_indextoname;

use super::hooks::{TCX_EGRESS, TCX_INGRESS, TcHook};
use super::load::Loaded;
use super::map_set::MapSet;
use super::pins::Pins;
use super::probe::tcx_programs;
use super::sys;

/// Target of a link, and the kernel's name for it in an existing link: the interface's index for both, or a
/// descriptor and the id (lower half) of a cgroup.
#[derive(Clone, Copy, Debug)]
pub struct LinkTarget {
    pub number: u32,
    pub id: u32,
}

impl LinkTarget {
    pub const fn interface(index: u32) -> Self {
        Self { number: index, id: index }
    }
}

/// A link that must exist.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// Name of the link's pin.
    pub label: String,
    pub program: &'static str,
    pub target: LinkTarget,
    pub attach_type: u32,
    pub flags: u32,
    /// A program of another name cannot take over the link: it is loaded differently.
    pub is_bound_to_program: bool,
}

struct HeldLink {
    fd: OwnedFd,
    program: &'static str,
    target: u32,
    attach_type: u32,
}

/// A foreign program that runs before ours at ingress, or after ours at egress.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outer {
    pub interface: u32,
    pub hook: TcHook,
    pub program: String,
}

/// Every link of this node, by label.
pub struct Links {
    held: BTreeMap<String, HeldLink>,
    /// Links keep programs over other tables until the tables in force are filled.
    pub defers: bool,
}

/// Result of checking the links.
#[derive(Debug, Default)]
pub struct Restored {
    /// Links that were pinned again.
    pub pinned: Vec<String>,
    /// Dead links: detached by another program, or their interface is gone.
    pub dead: Vec<String>,
}

impl Links {
    pub fn new(defers: bool) -> Self {
        Self { held: BTreeMap::new(), defers }
    }

    /// Makes a link, or puts the program behind the existing one.
    pub fn attach(&mut self, pins: &Pins, loaded: &mut Loaded, spec: &LinkSpec) -> anyhow::Result<()> {
        if let Some(fd) = self.existing(pins, &spec.label)? {
            let info = sys::link_info(fd.as_fd())?;
            if info.target == spec.target.id && self.takes_over(loaded, spec, &fd, info.prog_id)? {
                self.hold(pins, spec, fd)?;
                return Ok(());
            }
            // The old link must be closed before another can replace it.
            drop(fd);
            self.remove(pins, &spec.label)?;
        }
        let program = loaded.program(spec.program)?;
        let link = sys::link_create(program.as_fd(), spec.target.number, spec.attach_type, spec.flags)?;
        self.hold(pins, spec, link)
    }

    /// The held or pinned link of a label.
    fn existing(&mut self, pins: &Pins, label: &str) -> anyhow::Result<Option<OwnedFd>> {
        if let Some(held) = self.held.get(label) {
            return Ok(Some(held.fd.try_clone()?));
        }
        match sys::open_pin(&pins.link(label)) {
            Ok(fd) => Ok(Some(fd)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err).with_context(|| format!("opening {}", pins.link(label).display())),
        }
    }

    /// Puts the program behind a live link; true on success.
    fn takes_over(
        &self,
        loaded: &mut Loaded,
        spec: &LinkSpec,
        link: &OwnedFd,
        current: u32,
    ) -> anyhow::Result<bool> {
        if self.defers && is_foreign(loaded.maps(), current) {
            return Ok(true);
        }
        let program = loaded.program(spec.program)?;
        let is_same_kind = !spec.is_bound_to_program || program_name(current) == spec.program;
        Ok(sys::program_info(program.as_fd())?.id == current
            || (is_same_kind && sys::link_update(link.as_fd(), program.as_fd()).is_ok()))
    }

    fn hold(&mut self, pins: &Pins, spec: &LinkSpec, fd: OwnedFd) -> anyhow::Result<()> {
        let held =
            HeldLink { fd, program: spec.program, target: spec.target.id, attach_type: spec.attach_type };
        let pinned = pin(pins, &spec.label, &held);
        self.held.insert(spec.label.clone(), held);
        pinned.map(drop)
    }

    /// Unpins and drops a link, which detaches its program. A missing link is no error.
    pub fn remove(&mut self, pins: &Pins, label: &str) -> anyhow::Result<()> {
        self.held.remove(label);
        match std::fs::remove_file(pins.link(label)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(err).with_context(|| format!("unpinning {label}"))
            }
            _ => Ok(()),
        }
    }

    /// Makes lost pins again, drops dead links and returns them.
    pub fn restore(&mut self, pins: &Pins) -> anyhow::Result<Restored> {
        let mut restored = Restored::default();
        for (label, held) in &self.held {
            if sys::link_info(held.fd.as_fd()).is_ok_and(|info| info.target == held.target) {
                if pin(pins, label, held)? {
                    restored.pinned.push(label.clone());
                }
            } else {
                restored.dead.push(label.clone());
            }
        }
        Ok(restored)
    }

    /// Puts the programs of `new` behind every link, except links that keep another version's programs. If one link
    /// refuses, those before it get their old programs back.
    pub fn swap(&mut self, new: &mut Loaded) -> anyhow::Result<usize> {
        let names: Vec<&str> = self.held.values().map(|held| held.program).collect();
        new.require(&names)?;
        let mut moved: Vec<(&HeldLink, OwnedFd)> = Vec::new();
        for (label, held) in &self.held {
            let program = new.program(held.program)?;
            let info = sys::link_info(held.fd.as_fd())?;
            let is_dead = info.target != held.target;
            let is_kept = self.defers && is_foreign(new.maps(), info.prog_id);
            if is_dead || is_kept || info.prog_id == sys::program_info(program.as_fd())?.id {
                continue;
            }
            let before = sys::program_by_id(info.prog_id);
            match sys::link_update(held.fd.as_fd(), program.as_fd()) {
                Ok(()) => moved.extend(before.ok().map(|before| (held, before))),
                // The link's interface has vanished in the meantime.
                Err(err) if err.raw_os_error() == Some(libc::ENOLINK) => {}
                Err(err) => {
                    for (held, before) in moved {
                        if let Err(err) = sys::link_update(held.fd.as_fd(), before.as_fd()) {
                            tracing::error!(program = held.program, %err, "cannot restore the old program of a link");
                        }
                    }
                    bail!("putting {} behind the link {label}: {err}", held.program);
                }
            }
        }
        Ok(moved.len())
    }

    /// Foreign programs that hide packets from ours, or change packets that ours translated.
    pub fn outer(&self) -> Vec<Outer> {
        self.held.values().flat_map(HeldLink::outer).collect()
    }

    /// Names of the attached programs.
    pub fn programs(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.held.values().map(|held| held.program).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The link is held and attached to its target.
    pub fn is_live(&self, label: &str) -> bool {
        self.held
            .get(label)
            .is_some_and(|held| sys::link_info(held.fd.as_fd()).is_ok_and(|info| info.target == held.target))
    }
}

impl HeldLink {
    fn outer(&self) -> Vec<Outer> {
        let hook = match self.attach_type {
            TCX_INGRESS => TcHook::Ingress,
            TCX_EGRESS => TcHook::Egress,
            _ => return Vec::new(),
        };
        // An interface that is gone has no name and no programs.
        let name = if_indextoname(self.target).ok();
        let all = name.and_then(|name| tcx_programs(name.to_str().ok()?, hook)).unwrap_or_default();
        let own = sys::link_info(self.fd.as_fd()).map_or(0, |info| info.prog_id);
        let Some(at) = all.iter().position(|(id, _)| *id == own) else { return Vec::new() };
        let (before, after) = (&all[..at], &all[at + 1..]);
        let outer = if hook == TcHook::Ingress { before } else { after };
        let of =
            |(_, program): &(u32, String)| Outer { interface: self.target, hook, program: program.clone() };
        outer.iter().map(of).collect()
    }
}

/// Tables of the programs that hang at the pinned links, beside a set of maps.
#[derive(Debug, PartialEq, Eq)]
pub enum HookedTables {
    /// The maps of the set, or there are no programs.
    TheSame,
    /// Some maps of the set, and others of these names.
    Mixed(BTreeSet<&'static str>),
    /// No table of the plan in the set, but the maps with these ids: another version's.
    Others(BTreeSet<u32>),
}

pub fn hooked_tables(pins: &Pins, maps: &MapSet) -> anyhow::Result<HookedTables> {
    let program = |name: &String| {
        let link = sys::open_pin(&pins.link(name)).ok()?;
        let info = sys::link_info(link.as_fd()).ok()?;
        (info.target != 0).then_some(info.prog_id)
    };
    let mut all = BTreeSet::new();
    // The interfaces of pods share their programs.
    let programs: BTreeSet<u32> = pins.link_names()?.iter().filter_map(program).collect();
    for id in programs {
        all.extend(maps_of(id));
    }
    let others: BTreeSet<_> = all.iter().filter_map(|id| maps.other_of_name(*id)).collect();
    let shares = all.iter().any(|id| maps.has_planned(*id));
    Ok(match (others.is_empty(), shares) {
        (true, _) => HookedTables::TheSame,
        (false, true) => HookedTables::Mixed(others),
        (false, false) => HookedTables::Others(all),
    })
}

/// The program uses another map in place of one of these.
fn is_foreign(maps: &MapSet, program: u32) -> bool {
    maps_of(program).into_iter().any(|id| maps.other_of_name(id).is_some())
}

/// The ids of the maps that a program uses.
fn maps_of(program: u32) -> Vec<u32> {
    let info = sys::program_by_id(program).and_then(|fd| sys::program_info(fd.as_fd()));
    info.map_or_else(|_| Vec::new(), |info| info.maps)
}

fn program_name(id: u32) -> String {
    sys::program_by_id(id)
        .and_then(|fd| sys::program_info(fd.as_fd()))
        .map_or_else(|_| String::new(), |info| info.name)
}

/// Pins a link unless it is pinned; true if it was not.
fn pin(pins: &Pins, label: &str, held: &HeldLink) -> anyhow::Result<bool> {
    let path = pins.link(label);
    let pinned = sys::open_pin(&path).and_then(|link| sys::link_info(link.as_fd()));
    match pinned {
        Ok(info) if info.id == sys::link_info(held.fd.as_fd())?.id => return Ok(false),
        Ok(_) => std::fs::remove_file(&path).with_context(|| format!("unpinning {}", path.display()))?,
        Err(_) => {}
    }
    sys::pin(held.fd.as_fd(), &path).with_context(|| format!("pinning {}", path.display()))?;
    Ok(true)
}
