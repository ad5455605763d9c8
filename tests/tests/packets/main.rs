//! The packet tier.

fn main() {}
