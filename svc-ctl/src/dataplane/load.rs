//! Loads the programs over the pinned maps.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, bail};
use aya::maps::MapData;
use aya::programs::{Program, SchedClassifier, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use svc_common::abi::{Config, names};

use super::object::OBJECT;
use super::pins::Pins;
use super::sys;

/// What the loaded programs are told once and for all.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Source ports for masquerade: first and count.
    pub snat_ports: (u16, u16),
    /// The cgroup hooks serve pods too.
    pub pod_sockets: bool,
    /// Sources tell who is a local pod, not interfaces.
    pub pods_by_source: bool,
    /// There are Service CIDRs in the table of prefixes.
    pub service_cidrs: bool,
}

/// Kernel features with a fallback.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Features {
    /// tcx links (6.6); below it clsact filters by netlink.
    pub tcx: bool,
    /// `BPF_F_IPV6` of `bpf_l4_csum_replace` (6.16); below it the sum is compensated.
    pub csum_ipv6_flag: bool,
    /// `BPF_FIB_LOOKUP_SRC` (6.7); below it masquerade takes the interface's first address.
    pub fib_source: bool,
    /// `bpf_set_retval` (5.18); below it a refused connect says EPERM.
    pub set_retval: bool,
}

impl Features {
    /// By the version that the running kernel says it is.
    pub fn detect() -> Self {
        let running = KernelVersion::current().ok();
        let at_least = |major, minor| running.is_some_and(|r| r >= KernelVersion::new(major, minor, 0));
        Self {
            tcx: at_least(6, 6),
            csum_ipv6_flag: at_least(6, 16),
            fib_source: at_least(6, 7),
            set_retval: at_least(5, 18),
        }
    }

    /// What is missing and what is done instead, by name.
    pub fn fallbacks(self) -> Vec<&'static str> {
        let mut lines = Vec::new();
        if !self.tcx {
            lines.push("no tcx (Linux 6.6): clsact filters are used");
        }
        if !self.set_retval {
            lines.push("no bpf_set_retval (Linux 5.18): a refused connect says EPERM, not ECONNREFUSED");
        }
        lines
    }
}

/// Programs in the kernel, attached nowhere yet.
pub struct Loaded {
    ebpf: Ebpf,
    pub features: Features,
}

impl Loaded {
    /// Loads every program over the maps pinned at `pins`, making the maps that are not there yet.
    pub fn new(pins: &Pins, settings: Settings) -> anyhow::Result<Self> {
        Self::with_object(OBJECT, pins, settings)
    }

    /// The same with the programs of another object, whose maps are this version's.
    pub fn with_object(object: &[u8], pins: &Pins, settings: Settings) -> anyhow::Result<Self> {
        let features = Features::detect();
        let cookie = sys::netns_cookie().context("SO_NETNS_COOKIE (Linux 5.14)")?;
        let config = Config {
            host_netns: [cookie as u32, (cookie >> 32) as u32],
            snat_first: settings.snat_ports.0,
            snat_count: settings.snat_ports.1,
            pod_sockets: settings.pod_sockets.into(),
            csum_ipv6_flag: features.csum_ipv6_flag.into(),
            set_retval: features.set_retval.into(),
            fib_source: features.fib_source.into(),
            pods_by_source: settings.pods_by_source.into(),
            service_cidrs: settings.service_cidrs.into(),
            _pad: [0; 2],
        };
        check_abi(pins)?;
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", &config, true);
        for name in names::MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
        let mut ebpf = loader.load(object).context("loading the maps")?;
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::SchedClassifier(p) => p.load(),
                Program::Xdp(p) => p.load(),
                Program::CgroupSockAddr(p) => p.load(),
                _ => continue,
            }
            .map_err(|err| anyhow::anyhow!("the kernel refuses program {name}: {err}"))?;
        }
        Ok(Self { ebpf, features })
    }

    /// Pins those of our maps that have lost their pin; answers how many.
    pub fn pin_maps(&self, pins: &Pins) -> anyhow::Result<u64> {
        let mut pinned = 0;
        for name in names::MAPS {
            let path = pins.map(name);
            if !path.exists()
                && let Some(map) = self.ebpf.map(name)
            {
                map.pin(&path).with_context(|| format!("pinning {}", path.display()))?;
                pinned += 1;
            }
        }
        Ok(pinned)
    }

    /// A descriptor of a loaded program.
    pub fn program(&self, name: &str) -> anyhow::Result<OwnedFd> {
        let program = self.ebpf.program(name).with_context(|| format!("no program {name} in the object"))?;
        let fd = match program {
            Program::SchedClassifier(p) => p.fd(),
            Program::Xdp(p) => p.fd(),
            Program::CgroupSockAddr(p) => p.fd(),
            _ => bail!("program {name} is of a kind that is not attached"),
        }
        .with_context(|| format!("program {name} is not loaded"))?;
        Ok(fd.as_fd().try_clone_to_owned()?)
    }

    /// The program for a TC hook, to attach by netlink.
    pub fn classifier(&mut self, name: &str) -> anyhow::Result<&mut SchedClassifier> {
        Ok(self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Every program with its kernel info, for `status` and the verify tests.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.ebpf.programs()
    }

    /// For tests that run programs by hand.
    pub fn xdp(&mut self, name: &str) -> anyhow::Result<&mut Xdp> {
        Ok(self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }
}

/// Refuses pinned maps whose shape is not this version's: the kernel and aya would take them without a word.
fn check_abi(pins: &Pins) -> anyhow::Result<()> {
    let object = aya_obj::Object::parse(OBJECT).context("parsing the embedded object")?;
    for name in names::MAPS {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let wanted = object.maps.get(*name).with_context(|| format!("no map {name} in the object"))?;
        let info = MapData::from_pin(&path)
            .and_then(|map| map.info())
            .with_context(|| format!("opening the pinned map {}", path.display()))?;
        let (key, value) = (info.key_size(), info.value_size());
        if (key, value) != (wanted.key_size(), wanted.value_size()) {
            bail!(
                "the pinned map {} has keys of {key} and values of {value} octets; this version wants {} and {}: it \
                 was made by another build; remove it with `svc-ctl cleanup` (established connections will be lost)",
                path.display(),
                wanted.key_size(),
                wanted.value_size()
            );
        }
    }
    Ok(())
}
