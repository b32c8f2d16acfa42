//! What tandemctl can do, one file a kind of command.

mod backup;
mod certificate;
mod change;
mod document;
mod edit;
mod files;
mod health;
mod history;
mod list;
mod log;
mod members;
mod plan;
mod route;
mod run;
mod status;
mod task;
mod transaction;
mod tree;
mod trust;
mod view;
mod words;

pub(crate) use run::run;
