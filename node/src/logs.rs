//! What a node writes of itself: lines on stderr, as text or as JSON, at levels that can change while it runs.
//!
//! Targets: `access` has a line when a session opens and one when it ends (INFO), and one for each plain request (DEBUG);
//! everything else goes by room (`tandem_node::proxy`, `tandem_node::vip`, …).

use std::sync::Arc;

pub use tracing_appender::non_blocking::WorkerGuard as Guard;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Levels of a node that was told none: what an operator must know is said by our rooms; openraft and the HTTP stack talk
/// to their developers.
pub const DEFAULT: &str = "info,openraft=error,h2=warn,hyper=warn,tonic=warn";

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line, for collectors.
    Json,
}

/// The levels of this process: told at start, changed live. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Levels {
    filter: reload::Handle<EnvFilter, Registry>,
    now: Arc<std::sync::Mutex<String>>,
}

impl Levels {
    /// As they were last set.
    pub fn now(&self) -> String {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// From now on these: `level` or `target=level`, separated by commas.
    ///
    /// # Errors
    /// What is wrong with them, for the operator; then nothing changes.
    pub fn set(&self, levels: &str) -> Result<(), String> {
        let filter = parse(levels)?;
        self.filter.reload(filter).map_err(|e| e.to_string())?;
        levels.clone_into(&mut self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Ok(())
    }
}

/// Checks levels.
///
/// # Errors
/// What is wrong with them, for the operator.
pub fn check(levels: &str) -> Result<(), String> {
    parse(levels).map(drop)
}

fn parse(levels: &str) -> Result<EnvFilter, String> {
    let known = "write a level (error, warn, info, debug, trace, off) or target=level, separated by commas";
    // An unknown word alone would be taken for a target, and silently log all of it; no word at all for a level.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let stray = |word: &&str| !word.contains(['=', '[']) && !is_level(word);
    if let Some(word) = levels.split(',').map(str::trim).find(stray) {
        return Err(format!("{word:?} is no level; {known}"));
    }
    EnvFilter::builder().parse(levels).map_err(|e| format!("{e}; {known}"))
}

/// Sends the lines of this process to stderr from now on. They are written by a thread of its own: a slow terminal or pipe
/// must not stop a worker, nor a heartbeat. What is more than it can hold is dropped. The guard writes out the rest when
/// it is dropped.
///
/// # Errors
/// Levels that are none, or a process that logs already.
pub fn start(format: Format, levels: &str) -> Result<(Levels, Guard), String> {
    let (stderr, guard) = tracing_appender::non_blocking(std::io::stderr());
    let (filter, handle) = reload::Layer::new(parse(levels)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|e| e.to_string())?;
    Ok((Levels { filter: handle, now: Arc::new(levels.to_owned().into()) }, guard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked_before_they_hold() {
        for good in [DEFAULT, "warn", "info,access=off", "off"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["loud", "info,acces", "", "access=loud", "info,,access=debug"] {
            let why = check(bad).expect_err(bad);
            assert!(why.contains("target=level"), "{why}");
        }
    }
}
