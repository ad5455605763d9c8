//! The matrix as trials: each variant's world is made for its first cell and removed after its last.
//!
//! Not all of them run by default, but cells in which each pair of values occurs, in each variant.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libtest_mimic::{Failed, Trial};
use svc_tests::matrix::{Cell, CellOutcome, MatrixWorld, Table, VARIANTS, Variant};

/// A variant's world, made at its first use.
struct SharedWorld {
    variant: Variant,
    world: OnceLock<Result<MatrixWorld, String>>,
}

pub fn trials(all: bool, table: &Arc<Mutex<Table>>) -> Vec<Trial> {
    VARIANTS.into_iter().flat_map(|variant| of_variant(variant, all, table)).collect()
}

fn of_variant(variant: Variant, all: bool, table: &Arc<Mutex<Table>>) -> Vec<Trial> {
    let shared = Arc::new(SharedWorld { variant, world: OnceLock::new() });
    let cells = variant.cells(all).into_iter().map(|cell| {
        let (shared, table) = (Arc::clone(&shared), Arc::clone(table));
        Trial::test(format!("{}: {cell} ({})", variant.name, cell.rule()), move || {
            let result = shared.try_cell(cell);
            let outcome = if result.is_ok() { CellOutcome::Passed } else { CellOutcome::Failed };
            table.lock().unwrap_or_else(PoisonError::into_inner).record(variant, cell, outcome);
            result
        })
    });
    let sums = Arc::clone(&shared);
    let checksums =
        Trial::test(format!("{}: no receiver counts a wrong checksum", variant.name), move || {
            sums.world()?.no_wrong_checksums().map_err(|error| Failed::from(format!("{error:#}")))
        });
    cells.chain([checksums]).collect()
}

impl SharedWorld {
    fn try_cell(&self, cell: Cell) -> Result<(), Failed> {
        let world = self.world()?;
        cell.run(world).map_err(|error| world.explain(&error).into())
    }

    fn world(&self) -> Result<&MatrixWorld, Failed> {
        let made =
            self.world.get_or_init(|| MatrixWorld::new(self.variant).map_err(|error| format!("{error:#}")));
        made.as_ref().map_err(|error| format!("{}: no world: {error}", self.variant.name).into())
    }
}
