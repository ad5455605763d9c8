//! A part of some cells of the matrix in which every pair of values of two dimensions occurs that occurs in them.

use std::collections::BTreeSet;

use super::cell::Cell;

/// A value of one of a cell's dimensions.
type Value = (&'static str, String);

/// Takes the cell with the most new pairs until there are none.
pub fn part(cells: &[Cell]) -> BTreeSet<Cell> {
    let mut missing: BTreeSet<_> = cells.iter().flat_map(pairs_of).collect();
    let mut part = BTreeSet::new();
    while !missing.is_empty() {
        let gain = |cell: &&Cell| pairs_of(cell).iter().filter(|pair| missing.contains(*pair)).count();
        let Some(best) = cells.iter().max_by_key(gain) else { break };
        for pair in pairs_of(best) {
            missing.remove(&pair);
        }
        part.insert(*best);
    }
    part
}

fn pairs_of(cell: &Cell) -> Vec<(Value, Value)> {
    let Cell { client, backend, frontend, via, family } = cell;
    let values = [
        ("client", client.to_string()),
        ("backend", backend.to_string()),
        ("frontend", frontend.to_string()),
        ("via", via.to_string()),
        ("family", family.to_string()),
    ];
    let mut pairs = Vec::new();
    for (n, one) in values.iter().enumerate() {
        pairs.extend(values.iter().skip(n + 1).map(|other| (one.clone(), other.clone())));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::cell::Client;
    use super::*;

    #[test]
    fn a_part_of_the_matrix_has_every_pair() {
        let is_outside = |cell: &Cell| cell.client == Client::Outside;
        for (whole, times) in [
            (Cell::all_meaningful(), 4),
            (Cell::all_meaningful().into_iter().filter(is_outside).collect::<Vec<_>>(), 2),
        ] {
            let part: Vec<Cell> = part(&whole).into_iter().collect();
            let pairs = |cells: &[Cell]| cells.iter().flat_map(pairs_of).collect::<BTreeSet<_>>();
            assert_eq!(pairs(&part), pairs(&whole));
            assert!(times * part.len() < whole.len(), "{} of {}", part.len(), whole.len());
        }
    }
}
