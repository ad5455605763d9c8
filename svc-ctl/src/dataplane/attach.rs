//! Attaches programs to hooks and keeps them there: a pinned link is adopted and its program swapped in one step; one
//! whose interface is gone is unpinned and made anew.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use aya::programs::TcAttachType;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};

use super::clsact;
use super::load::Loaded;
use super::pins::Pins;
use super::sys;

/// `enum bpf_attach_type`.
const CGROUP_HOOKS: [(&str, u32); 8] = [
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getpeername4", 29),
    ("getpeername6", 30),
];
const BPF_XDP: u32 = 37;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

const XDP_SKB_MODE: u32 = 1 << 1;
const XDP_DRV_MODE: u32 = 1 << 2;

/// Our place among clsact filters, where there is no tcx.
pub const CLSACT_PRIORITY: u16 = 0x5c;

/// Where on an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    Ingress,
    Egress,
}

/// How XDP runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XdpWay {
    Native,
    Generic,
}

/// What a link is made to, and what the kernel calls that afterwards: the interface's index for both, or a descriptor
/// and the id (in its lower half) of a cgroup.
#[derive(Clone, Copy, Debug)]
struct Target {
    number: u32,
    id: u32,
}

impl Target {
    fn interface(index: u32) -> Self {
        Self { number: index, id: index }
    }
}

/// The link is pinned and attached to the target of that id, which is zero once that is gone.
fn is_linked(pins: &Pins, label: &str, id: u32) -> bool {
    sys::open_pin(&pins.link(label))
        .and_then(|link| sys::link_info(link.as_fd()))
        .is_ok_and(|i| i.target == id)
}

/// What `hook` (as [`super::interfaces::Attached`] names it) says is still so.
pub fn is_attached(pins: &Pins, hook: &str, index: u32) -> bool {
    match hook.split_once('/') {
        Some(("clsact", "ingress")) => clsact::is_attached(index, Place::Ingress),
        Some(("clsact", _)) => clsact::is_attached(index, Place::Egress),
        Some((kind, way)) => is_linked(pins, &format!("{kind}-{way}-{index}"), index),
        None => false,
    }
}

/// Every socket hook is on that cgroup.
pub fn is_cgroup_attached(pins: &Pins, path: &Path) -> bool {
    // A cgroup that is gone cannot be attached to anew.
    let Ok(dir) = path.metadata() else { return true };
    CGROUP_HOOKS.iter().all(|(program, _)| is_linked(pins, &format!("cgroup-{program}"), dir.ino() as u32))
}

/// Attaches and detaches for one node.
pub struct Attacher<'a> {
    pub loaded: &'a mut Loaded,
    pub pins: &'a Pins,
}

impl Attacher<'_> {
    /// Puts a program at a TC hook; answers how (`tcx` or `clsact`).
    pub fn tc(
        &mut self,
        name: &str,
        index: u32,
        program: &str,
        place: Place,
    ) -> anyhow::Result<&'static str> {
        if !self.loaded.features.tcx {
            self.clsact(name, program, place)?;
            return Ok("clsact");
        }
        let (label, attach_type) = match place {
            Place::Ingress => ("tcx-ingress", TCX_INGRESS),
            Place::Egress => ("tcx-egress", TCX_EGRESS),
        };
        self.link(&format!("{label}-{index}"), program, Target::interface(index), attach_type, 0)
            .with_context(|| format!("{label} of {name}"))?;
        Ok("tcx")
    }

    /// Puts the XDP program of that way on an uplink.
    pub fn xdp(&mut self, name: &str, index: u32, way: XdpWay) -> anyhow::Result<()> {
        let (program, flags) = match way {
            XdpWay::Native => ("uplink_xdp", XDP_DRV_MODE),
            XdpWay::Generic => ("uplink_xdp_skb", XDP_SKB_MODE),
        };
        // The mode is part of the link: a link of the other mode has to go first.
        let other = format!("xdp-{}-{index}", if way == XdpWay::Native { "generic" } else { "native" });
        self.remove(&other)?;
        let label = format!("xdp-{}-{index}", if way == XdpWay::Native { "native" } else { "generic" });
        self.link(&label, program, Target::interface(index), BPF_XDP, flags)
            .with_context(|| format!("XDP of {name}"))
    }

    /// Puts the socket hooks on a cgroup.
    pub fn cgroup(&mut self, path: &Path) -> anyhow::Result<()> {
        let dir = File::open(path).with_context(|| format!("--cgroup {}", path.display()))?;
        let id = dir.metadata()?.ino() as u32;
        for (program, attach_type) in CGROUP_HOOKS {
            let target = Target { number: dir.as_raw_fd() as u32, id };
            self.link(&format!("cgroup-{program}"), program, target, attach_type, 0)
                .with_context(|| format!("--cgroup {}: {program}", path.display()))?;
        }
        Ok(())
    }

    /// Unpins a link, which detaches its program. One that is not there is gone.
    pub fn remove(&self, link: &str) -> anyhow::Result<()> {
        match std::fs::remove_file(self.pins.link(link)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(err).context(format!("unpinning {link}"))
            }
            _ => Ok(()),
        }
    }

    fn link(
        &mut self,
        label: &str,
        program: &str,
        target: Target,
        attach_type: u32,
        flags: u32,
    ) -> anyhow::Result<()> {
        let pin = self.pins.link(label);
        let prog = self.loaded.program(program)?;
        if pin.exists() {
            let link = sys::open_pin(&pin).with_context(|| format!("opening {}", pin.display()))?;
            let is_live = sys::link_info(link.as_fd())?.target == target.id;
            if is_live && sys::link_update(link.as_fd(), prog.as_fd()).is_ok() {
                return Ok(());
            }
            std::fs::remove_file(&pin).with_context(|| format!("unpinning {}", pin.display()))?;
        }
        let link = sys::link_create(prog.as_fd(), target.number, attach_type, flags)?;
        sys::pin(link.as_fd(), &pin).with_context(|| format!("pinning {}", pin.display()))
    }

    fn clsact(&mut self, name: &str, program: &str, place: Place) -> anyhow::Result<()> {
        if let Err(err) = qdisc_add_clsact(name) {
            let text = format!("{err:?}");
            if !text.contains("AlreadyExists")
                && !text.contains("File exists")
                && !text.contains("os error 17")
            {
                bail!("adding the clsact qdisc of {name}: {err}");
            }
        }
        let place = match place {
            Place::Ingress => TcAttachType::Ingress,
            Place::Egress => TcAttachType::Egress,
        };
        let handle = TcHandle::new(0, 1);
        let classifier = self.loaded.classifier(program)?;
        let adopted = SchedClassifierLink::attached(name, place, CLSACT_PRIORITY, handle, None)
            .map_err(anyhow::Error::from)
            .and_then(|link| Ok(classifier.attach_to_link(link)?));
        let id = match adopted {
            Ok(id) => id,
            Err(_) => {
                let options = NlOptions { priority: CLSACT_PRIORITY, handle, ..NlOptions::default() };
                classifier
                    .attach_with_options(name, place, TcAttachOptions::Netlink(options))
                    .with_context(|| format!("clsact filter of {name}"))?
            }
        };
        // The filter outlives us: nothing may detach it when this process ends.
        std::mem::forget(classifier.take_link(id)?);
        Ok(())
    }
}
