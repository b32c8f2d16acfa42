//! The real tandemctl against nodes that answer from a script.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod certificate;
mod changes;
mod document;
mod fake;
mod leader;
mod limits;
mod looks;
mod route;
