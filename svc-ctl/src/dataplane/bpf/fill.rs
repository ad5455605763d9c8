//! Writing complete tables into new maps.

use std::io;

use svc_common::abi::names;

use super::queues::Queues;
use super::{Failures, describe, put_backend, put_extent};
use crate::dataplane::maps::Maps;
use crate::dataplane::store::StoreError;
use crate::plan::tables::{MapOp, Tables};

/// Fills those maps of `new` that are not `old`'s as well.
pub fn fill(new: &mut Maps, old: &Maps, tables: &Tables) -> Result<(), StoreError> {
    let is_new = |name: &str| {
        let id = |maps: &Maps| maps.set.get(name).ok().map(|map| map.info.id);
        id(new) != id(old)
    };
    let failed = |map, operation: &str| {
        let operation = operation.to_owned();
        move |source: io::Error| StoreError { map, operation, source }
    };
    let new_backends = is_new(names::BACKENDS4) || is_new(names::BACKENDS6);
    let (new_selection, new_maglev) = (is_new(names::SELECTION), is_new(names::MAGLEV));
    let new_frontends = is_new(names::FRONTENDS4) || is_new(names::FRONTENDS6);
    let new_addresses = is_new(names::ADDRESSES4) || is_new(names::ADDRESSES6);
    let new_prefixes = is_new(names::PREFIXES4) || is_new(names::PREFIXES6);
    if new_backends {
        for (id, backend) in tables.backends.iter() {
            put_backend(new, id, backend).map_err(failed("BACKENDS", "fill"))?;
        }
    }
    if new_selection {
        for (extent, ids) in &tables.extents {
            put_extent(new, *extent, ids).map_err(failed("SELECTION", "fill"))?;
        }
    }
    if new_maglev {
        let mut old_pages = old.maglev.try_clone().map_err(failed("MAGLEV", "fill"))?;
        for page in tables.maglevs.keys().flat_map(|pages| pages.first..pages.first + pages.count) {
            let copied = old_pages.get(page).and_then(|places| new.maglev.set(page, &places));
            copied.map_err(failed("MAGLEV", "fill"))?;
        }
    }
    let mut ops = Vec::new();
    if new_prefixes {
        ops.extend(tables.prefixes.iter().map(|prefix| MapOp::PutPrefix(*prefix)));
    }
    if new_frontends {
        ops.extend(tables.frontends.iter().map(|(frontend, entry)| MapOp::PutFrontend(*frontend, *entry)));
    }
    if new_addresses {
        ops.extend(tables.addresses.iter().map(|(addr, flags)| MapOp::PutAddress(*addr, *flags)));
    }
    let (mut queues, mut failures) = (Queues::default(), Failures::new());
    ops.iter().enumerate().for_each(|(index, op)| queues.push(index, op));
    queues.write(new, &mut failures);
    match failures.into_iter().next() {
        None => Ok(()),
        Some((index, source)) => {
            let (map, operation) = ops.get(index).map_or_else(Default::default, describe);
            Err(StoreError { map, operation, source })
        }
    }
}
