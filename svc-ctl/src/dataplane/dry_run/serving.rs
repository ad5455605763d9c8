//! The configuration of the programs that serve, from their read-only data.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail};
use svc_common::abi::Config;
use svc_common::datapath::select::snat_ring;

use crate::dataplane::pins::Pins;
use crate::dataplane::sys;

/// Name of the map with the read-only data; `CONFIG` is at its beginning.
const RODATA: &str = ".rodata";

/// The configuration of the first pinned link's program that reads it.
pub fn config(pins: &Pins) -> anyhow::Result<Config> {
    for name in pins.link_names().context("no program is attached")? {
        let Ok(link) = sys::open_pin(&pins.link(&name)) else { continue };
        let Ok(info) = sys::link_info(link.as_fd()) else { continue };
        let Ok(program) = sys::program_by_id(info.prog_id) else { continue };
        for id in sys::program_info(program.as_fd())?.maps {
            let map = sys::map_by_id(id)?;
            let info = sys::map_info(map.as_fd())?;
            if info.is_called(RODATA) {
                let mut octets = vec![0; info.value_size as usize];
                sys::look_up_entry(map.as_fd(), &0_u32.to_ne_bytes(), &mut octets)
                    .context("reading the configuration of the programs")?;
                return checked(&octets);
            }
        }
    }
    bail!("no program is attached: has `svc-ctl run` been started on this node?")
}

/// Other read-only data would not satisfy these conditions.
fn checked(octets: &[u8]) -> anyhow::Result<Config> {
    let config = octets.get(..size_of::<Config>()).and_then(sys::read::<Config>);
    let config = config.context("the attached programs have no configuration")?;
    if config.snat_ring != snat_ring(config.snat_count) || config._pad != [0; 3] {
        bail!("the attached programs are of another version than this svc-ctl");
    }
    let cookie = sys::netns_cookie().context("SO_NETNS_COOKIE (Linux 5.14)")?;
    if config.host_netns != [cookie as u32, (cookie >> 32) as u32] {
        bail!("the attached programs are those of another network namespace: run svc-ctl in the node's");
    }
    Ok(config)
}
