//! The replicated state and what a command does to it. Pure: no clock, no chance, no I/O; total: a refusal is a value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tandem_proto::Problems;
use tandem_proto::config::v1::Command;

use crate::config::model::Config;

/// How many request ids are remembered, so that a retried request applies once.
pub const REMEMBERED: usize = 4096;

/// What every node holds after the same log entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Number of the config; rises by one with each change.
    pub revision: u64,
    /// The config at that revision.
    pub config: Arc<Config>,
    /// When the last change was taken, ms since 1970 by the leader's clock.
    pub changed_at_unix_ms: u64,
    /// Who asked for it.
    pub changed_by: String,
    requests: Requests,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Applied (now or, for a request id seen before, then); the config got this revision.
    Done {
        /// Of the config that resulted.
        revision: u64,
    },
    /// Nothing was changed.
    Refused {
        /// Every reason.
        problems: Problems,
        /// The revision at which it was refused.
        revision: u64,
    },
}

/// The newest request ids and the revisions they led to.
#[derive(Debug, Clone, Default, PartialEq)]
struct Requests {
    done: BTreeMap<String, u64>,
    order: VecDeque<String>,
}

impl Requests {
    fn remember(&mut self, id: &str, revision: u64) {
        if id.is_empty() {
            return;
        }
        if self.done.insert(id.to_owned(), revision).is_none() {
            self.order.push_back(id.to_owned());
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.done.remove(&oldest);
            }
        }
    }
}

impl State {
    /// A state read back from a snapshot; `requests` oldest first.
    pub fn restored(
        revision: u64,
        config: Config,
        changed: (u64, String),
        requests: impl IntoIterator<Item = (String, u64)>,
    ) -> Self {
        let (changed_at_unix_ms, changed_by) = changed;
        let mut state =
            Self { revision, config: Arc::new(config), changed_at_unix_ms, changed_by, requests: Requests::default() };
        for (id, at) in requests {
            state.requests.remember(&id, at);
        }
        state
    }

    /// What others need to see: everything but the memory of requests, which only `apply` asks for.
    pub fn without_requests(&self) -> Self {
        Self {
            revision: self.revision,
            config: Arc::clone(&self.config),
            changed_at_unix_ms: self.changed_at_unix_ms,
            changed_by: self.changed_by.clone(),
            requests: Requests::default(),
        }
    }

    /// The remembered request ids with the revisions they led to, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = (&str, u64)> {
        self.requests.order.iter().filter_map(|id| Some((id.as_str(), *self.requests.done.get(id)?)))
    }

    /// What `command` would do, without doing it: the next config, or the refusal.
    ///
    /// # Errors
    /// Every reason against it.
    pub fn plan(&self, command: &Command) -> Result<Config, Problems> {
        if let Some(expected) = command.expect_revision
            && expected != self.revision
        {
            let why = format!("the config is at revision {} by now", self.revision);
            return Err(Problems::one("expect_revision", expected, why, "look at the change since, then ask again"));
        }
        self.config.edited(&command.edits)
    }

    /// The revision a request with this id led to, if it was applied before.
    pub fn already(&self, request_id: &str) -> Option<u64> {
        self.requests.done.get(request_id).copied()
    }

    /// Applies a committed command.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        if let Some(revision) = self.already(&command.request_id) {
            return Outcome::Done { revision };
        }
        match self.plan(command) {
            Err(problems) => Outcome::Refused { problems, revision: self.revision },
            Ok(config) => {
                self.revision += 1;
                self.config = Arc::new(config);
                self.changed_at_unix_ms = command.at_unix_ms;
                self.changed_by.clone_from(&command.actor);
                self.requests.remember(&command.request_id, self.revision);
                Outcome::Done { revision: self.revision }
            }
        }
    }
}
