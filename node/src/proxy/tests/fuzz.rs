//! Fuzz targets: what strangers send, mutated from seeds for as long as `FUZZ_SECONDS` says.
//!
//! `FUZZ_SECONDS=60 cargo fuzz-targets` runs all of them; `cargo test` gives each a moment. Each target holds what the
//! product makes of an input against another reading of it. An input that fails is made small, printed, and belongs into
//! the target's `seeds/` once the mistake is mended.

mod engine;
mod frames;
mod proxy_header;
mod route;
mod upgrade;
