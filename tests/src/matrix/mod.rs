//! The combinations of a client, a frontend and a backend: their list, expected results, and the table of results.

mod cell;
mod pairs;
mod source;
mod table;
mod traffic;
mod variant;
mod why;
mod world;

pub use cell::{BackendPlace, Cell, Client, Frontend};
pub use source::Source;
pub use table::{CellOutcome, Table};
pub use variant::{VARIANTS, Variant};
pub use world::MatrixWorld;
