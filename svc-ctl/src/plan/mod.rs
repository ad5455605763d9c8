//! Pure functions from a snapshot of the model to the tables the kernel should hold.

pub mod tables;
