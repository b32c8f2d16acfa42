//! The real tandemctl against nodes that answer from a script.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod backup;
mod certificate;
mod changes;
mod document;
mod edit;
mod fake;
mod history;
mod leader;
mod limits;
mod looks;
mod members;
mod plans;
mod route;
mod transaction;
mod trust;
