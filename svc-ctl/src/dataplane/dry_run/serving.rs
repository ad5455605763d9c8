//! The programs that serve: their configuration, from their read-only data, and their instructions.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, bail};
use svc_common::abi::Config;
use svc_common::datapath::select::snat_ring;

use crate::dataplane::pins::Pins;
use crate::dataplane::sys;

/// Name of the map with the read-only data; `CONFIG` is at its beginning.
const RODATA: &str = ".rodata";

/// The configuration of the first pinned link's program that reads it.
pub fn config(pins: &Pins) -> anyhow::Result<Config> {
    let mut errors = Vec::new();
    for name in pins.link_names().context("no program is attached")? {
        match config_of(pins, &name) {
            Ok(Some(octets)) => return checked(&octets),
            Ok(None) => {}
            Err(error) => errors.push(format!("link {name}: {error:#}")),
        }
    }
    match errors.first() {
        None => bail!("no program is attached: has `svc-ctl run` been started on this node?"),
        Some(first) => {
            let more = match errors.len() {
                1 => String::new(),
                count => format!(" (and {} more links)", count - 1),
            };
            bail!("no attached program could be read: {first}{more}")
        }
    }
}

/// The read-only data of a link's program; `None` if the program has none.
fn config_of(pins: &Pins, link: &str) -> anyhow::Result<Option<Vec<u8>>> {
    for id in sys::program_info(program_of(pins, link)?.as_fd())?.maps {
        let map = sys::map_by_id(id)?;
        let info = sys::map_info(map.as_fd())?;
        if info.is_called(RODATA) {
            let mut octets = vec![0; info.value_size as usize];
            sys::look_up_entry(map.as_fd(), &0_u32.to_ne_bytes(), &mut octets)
                .context("reading the configuration of its program")?;
            return Ok(Some(octets));
        }
    }
    Ok(None)
}

/// The program of a pinned link.
fn program_of(pins: &Pins, link: &str) -> anyhow::Result<OwnedFd> {
    let link = sys::open_pin(&pins.link(link)).context("opening its pin")?;
    let info = sys::link_info(link.as_fd()).context("its pin is no link")?;
    sys::program_by_id(info.prog_id).context("opening its program")
}

/// The hash of the instructions of the program behind a link, or on kernels without such links (clsact) of the one that the daemon
/// pinned under this name. `None`: it cannot be compared with a copy.
pub fn attached_tag(pins: &Pins, link: &str, name: &str) -> Option<[u8; 8]> {
    let info = |program: OwnedFd| sys::program_info(program.as_fd()).ok();
    if let Some(info) = program_of(pins, link).ok().and_then(info) {
        // The copy for a tunnel is an uplink's program, which expects a header for the link layer.
        return (!info.name.starts_with("tunnel_")).then_some(info.tag);
    }
    let builds = std::fs::read_dir(pins.programs()).into_iter().flatten().flatten();
    builds.filter_map(|build| info(sys::open_pin(&build.path().join(name)).ok()?)).next().map(|info| info.tag)
}

/// Other read-only data would not satisfy these conditions.
fn checked(octets: &[u8]) -> anyhow::Result<Config> {
    let config = octets.get(..size_of::<Config>()).and_then(sys::read::<Config>);
    let config = config.context("the attached programs have no configuration")?;
    if config.snat_ring != snat_ring(config.snat_count) || config._pad != [0; 2] {
        bail!("the attached programs are of another version than this svc-ctl");
    }
    let cookie = sys::netns_cookie().context("SO_NETNS_COOKIE (Linux 5.14)")?;
    if config.host_netns != [cookie as u32, (cookie >> 32) as u32] {
        bail!("the attached programs are those of another network namespace: run svc-ctl in the node's");
    }
    Ok(config)
}
