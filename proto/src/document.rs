//! The config as a TOML document: what `config apply` reads and `config show` writes.

use crate::config::v1 as pb;
use crate::model::{self, Config};
use crate::{Problems, Table};

/// Reads a whole document and checks it.
///
/// # Errors
/// Every mistake in it: syntax, unknown keys, wrong types, bad values, broken references.
pub fn parse(text: &str) -> Result<pb::Config, Problems> {
    let mut problems = Problems::default();
    let config = model::read(Table::document(text)?, &mut problems);
    if let Err(more) = Config::try_from(&config) {
        problems.extend(more);
    }
    problems.into_result().map(|()| config)
}

/// Writes a document that [`parse`] reads back to the same config.
pub fn render(config: &Config) -> String {
    toml::to_string(&model::tables(config)).expect("tables of text and numbers have a TOML form")
}

#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;

#[cfg(test)]
mod limits;

#[cfg(test)]
mod tls;
