//! tandemctl.
fn main() {}
