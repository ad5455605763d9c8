//! What the daemon tells about itself.

pub mod health;
pub mod status;
pub mod warnings;
