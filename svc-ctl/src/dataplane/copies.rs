//! Copies entries of replaced maps that programs wrote and that the daemon does not fill.

use std::os::fd::AsFd as _;

use anyhow::Context as _;
use aya::util::nr_cpus;
use svc_common::abi::names::*;

use super::map_set::{HeldMap, MapSet};
use super::sys;

/// Tables whose entries are copied. Flow tables are carried over by the programs, and fragments are short-lived.
const ENTRIES_COPIED: [&str; 5] = [AFFINITY4, AFFINITY6, SOCKETS4, SOCKETS6, IFACES];

/// Per-CPU tables of counters, 64 bits each.
const COUNTERS_ADDED: [&str; 3] = [COUNTERS, SERVICES, ENTRIES];

/// The old and the new map of a name, if they differ.
fn replaced<'a>(
    old: &'a MapSet,
    new: &'a MapSet,
    name: &str,
) -> anyhow::Result<Option<(&'a HeldMap, &'a HeldMap)>> {
    let (before, after) = (old.get(name)?, new.get(name)?);
    Ok((before.info.id != after.info.id).then_some((&**before, &**after)))
}

/// Copies the entries of replaced tables. Must be called before programs use the new ones.
pub fn copy_entries(old: &MapSet, new: &MapSet) -> anyhow::Result<()> {
    for name in ENTRIES_COPIED {
        let Some((before, after)) = replaced(old, new, name)? else { continue };
        let sizes = (before.info.key_size as usize, before.info.value_size as usize);
        sys::each_entry(before.fd.as_fd(), sizes, |key, value| {
            // A smaller new table may be full.
            let _ = sys::update_entry(after.fd.as_fd(), key, value);
        })
        .with_context(|| format!("copying {name}"))?;
    }
    Ok(())
}

/// Adds the counts of replaced tables. Must be called when programs no longer use the old ones. A count is lost if a
/// program updates the entry between reading and writing.
pub fn add_counters(old: &MapSet, new: &MapSet) -> anyhow::Result<()> {
    let cpus = nr_cpus().map_err(|(path, err)| anyhow::anyhow!("{path}: {err}"))?;
    for name in COUNTERS_ADDED {
        let Some((before, after)) = replaced(old, new, name)? else { continue };
        let value_size = (before.info.value_size as usize).next_multiple_of(8) * cpus;
        let mut sum = vec![0; value_size];
        sys::each_entry(before.fd.as_fd(), (4, value_size), |key, value| {
            if value.iter().all(|octet| *octet == 0)
                || sys::look_up_entry(after.fd.as_fd(), key, &mut sum).is_err()
            {
                return;
            }
            for (to, from) in sum.as_chunks_mut::<8>().0.iter_mut().zip(value.as_chunks::<8>().0) {
                *to = u64::from_ne_bytes(*to).wrapping_add(u64::from_ne_bytes(*from)).to_ne_bytes();
            }
            let _ = sys::update_entry(after.fd.as_fd(), key, &sum);
        })
        .with_context(|| format!("adding the counts of {name}"))?;
    }
    Ok(())
}
