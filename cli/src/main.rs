//! The stock command line.
fn main() {}
