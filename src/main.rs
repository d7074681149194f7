//! The `rgun-async` binary.
fn main() {}
