//! tandemd.
fn main() {}
