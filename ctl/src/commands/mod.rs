//! What tandemctl can do, one file a kind of command.

mod certificate;
mod change;
mod document;
mod health;
mod list;
mod log;
mod route;
mod run;
mod status;
mod task;
mod view;
mod words;

pub(crate) use run::run;
