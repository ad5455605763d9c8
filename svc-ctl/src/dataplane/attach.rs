//! Attaches programs to hooks.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use aya::programs::TcAttachType;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};

use super::clsact;
use super::hooks::{
    BPF_XDP, CGROUP_HOOKS, CLSACT_PRIORITY, FIRST, TCX_EGRESS, TCX_INGRESS, TcHook, XDP_DRV_MODE,
    XDP_SKB_MODE, XdpMode, cgroup_label, tcx_label,
};
use super::links::{LinkSpec, LinkTarget, Links};
use super::load::Loaded;
use super::pins::Pins;

/// Attaches and detaches programs for one node.
pub struct Attacher<'a> {
    pub loaded: &'a mut Loaded,
    pub pins: &'a Pins,
    pub links: &'a mut Links,
}

impl Attacher<'_> {
    /// Attaches a program to a TC hook; returns the mechanism (`tcx` or `clsact`).
    pub fn tc(
        &mut self,
        name: &str,
        index: u32,
        program: &'static str,
        hook: TcHook,
    ) -> anyhow::Result<&'static str> {
        if !self.loaded.features.tcx {
            // As with links, programs over filled tables are not replaced by programs over empty ones.
            if !(self.links.defers && clsact::is_attached(index, hook)) {
                self.clsact(name, program, hook)?;
            }
            return Ok("clsact");
        }
        // First at ingress and last at egress: other programs see the packet behind the Service, in both directions.
        let (attach_type, flags) = match hook {
            TcHook::Ingress => (TCX_INGRESS, FIRST),
            TcHook::Egress => (TCX_EGRESS, 0),
        };
        self.link(&LinkSpec {
            label: tcx_label(hook, index),
            program,
            target: LinkTarget::interface(index),
            attach_type,
            flags,
            is_bound_to_program: false,
        })
        .with_context(|| format!("tcx-{} of {name}", hook.label()))?;
        Ok("tcx")
    }

    /// Attaches the XDP program of that mode to an uplink.
    pub fn xdp(&mut self, name: &str, index: u32, mode: XdpMode) -> anyhow::Result<()> {
        let (other, flags) = match mode {
            XdpMode::Native => (XdpMode::Generic, XDP_DRV_MODE),
            XdpMode::Generic => (XdpMode::Native, XDP_SKB_MODE),
        };
        // The mode is part of the link, so a link of the other mode must be removed first.
        self.remove(&format!("xdp-{}-{index}", other.name()))?;
        self.link(&LinkSpec {
            label: format!("xdp-{}-{index}", mode.name()),
            program: mode.program(),
            target: LinkTarget::interface(index),
            attach_type: BPF_XDP,
            flags,
            is_bound_to_program: true,
        })
        .with_context(|| format!("XDP of {name}"))
    }

    /// Attaches the socket programs to a cgroup.
    pub fn cgroup(&mut self, path: &Path) -> anyhow::Result<()> {
        let dir = File::open(path).with_context(|| format!("--cgroup {}", path.display()))?;
        let target = LinkTarget { number: dir.as_raw_fd() as u32, id: dir.metadata()?.ino() as u32 };
        for (program, attach_type) in CGROUP_HOOKS {
            self.link(&LinkSpec {
                label: cgroup_label(program),
                program,
                target,
                attach_type,
                flags: 0,
                is_bound_to_program: true,
            })
            .with_context(|| format!("--cgroup {}: {program}", path.display()))?;
        }
        Ok(())
    }

    /// Detaches the program of a link. A missing link is no error.
    pub fn remove(&mut self, label: &str) -> anyhow::Result<()> {
        self.links.remove(self.pins, label)
    }

    fn link(&mut self, spec: &LinkSpec) -> anyhow::Result<()> {
        self.links.attach(self.pins, self.loaded, spec)
    }

    /// Puts a program into our filter of a clsact qdisc, replacing the one in it.
    pub fn clsact(&mut self, name: &str, program: &str, hook: TcHook) -> anyhow::Result<()> {
        if let Err(err) = qdisc_add_clsact(name) {
            let text = format!("{err:?}");
            if !text.contains("AlreadyExists")
                && !text.contains("File exists")
                && !text.contains("os error 17")
            {
                bail!("adding the clsact qdisc of {name}: {err}");
            }
        }
        let attach_type = match hook {
            TcHook::Ingress => TcAttachType::Ingress,
            TcHook::Egress => TcAttachType::Egress,
        };
        let handle = TcHandle::new(0, 1);
        let mut classifier = self.loaded.classifier(program)?;
        let adopted = SchedClassifierLink::attached(name, attach_type, CLSACT_PRIORITY, handle, None)
            .map_err(anyhow::Error::from)
            .and_then(|link| Ok(classifier.attach_to_link(link)?));
        let id = match adopted {
            Ok(id) => id,
            Err(_) => {
                let options = NlOptions { priority: CLSACT_PRIORITY, handle, ..NlOptions::default() };
                classifier
                    .attach_with_options(name, attach_type, TcAttachOptions::Netlink(options))
                    .with_context(|| format!("clsact filter of {name}"))?
            }
        };
        // The filter must stay when this process ends.
        std::mem::forget(classifier.take_link(id)?);
        Ok(())
    }
}

/// Every socket program is attached to its cgroup.
pub fn is_cgroup_attached(links: &Links) -> bool {
    CGROUP_HOOKS.iter().all(|(program, _)| links.is_live(&cgroup_label(program)))
}
