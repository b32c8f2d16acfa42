//! The replicated state and what a command does to it. Pure: no clock, no chance, no I/O; total: a refusal is a value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tandem_proto::Problems;
use tandem_proto::config::v1::{Backup, Command};

use super::history::{History, Record};
use super::roll::Roll;
use super::standing::NodeId;
use super::trust::Trust;
use crate::config::model::{Config, Undo};

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
    /// How the config came to be what it is.
    pub history: History,
    /// Who is a member, and who was.
    pub roll: Roll,
    /// What every member knows how to apply; never sinks. 0 means 1: see [`said`](super::level::said).
    pub level: u32,
    /// Who is believed.
    pub trust: Arc<Trust>,
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
    /// A newcomer may have this number; nothing else was changed.
    Admitted {
        /// Given to nobody before.
        node: NodeId,
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
        history: History,
        requests: impl IntoIterator<Item = (String, u64)>,
    ) -> Self {
        let (changed_at_unix_ms, changed_by) = changed;
        let mut state = Self { revision, changed_at_unix_ms, changed_by, history, ..Self::default() };
        state.config = Arc::new(config);
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
            history: self.history.clone(),
            roll: self.roll.clone(),
            level: self.level,
            trust: Arc::clone(&self.trust),
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
        self.base(command)?.edited(&command.edits)
    }

    /// The config that the edits of `command` begin with.
    fn base(&self, command: &Command) -> Result<Arc<Config>, Problems> {
        match (&command.restore, command.rollback_to) {
            (None, None) => Ok(Arc::clone(&self.config)),
            (None, Some(revision)) => Ok(Arc::new(self.config_of(revision)?)),
            (Some(backup), None) => self.restorable(backup, command.expect_revision),
            (Some(_), Some(_)) => {
                Err(Problems::one("restore", "", "cannot be together with a rollback", "ask for one, then the other"))
            }
        }
    }

    /// The config as it was at `revision`.
    ///
    /// # Errors
    /// It is forgotten, or never was.
    pub fn config_of(&self, revision: u64) -> Result<Config, Problems> {
        self.history.config(revision, &self.config, self.revision).ok_or_else(|| {
            let mend = format!("choose one of {} to {}", self.history.oldest_config(self.revision), self.revision);
            Problems::one("revision", revision, "is not kept", mend)
        })
    }

    fn restorable(&self, backup: &Backup, expected: Option<u64>) -> Result<Arc<Config>, Problems> {
        if self.revision > 0 && expected.is_none() {
            let why = format!("this cluster has a config already (revision {}), and would lose it", self.revision);
            let mend = format!("if that is meant: --expect-revision {}", self.revision);
            return Err(Problems::one("restore", &backup.cluster, why, mend));
        }
        let history = History::try_from(backup.history.as_slice())?;
        // The next record comes after these: out of order, no node could read its own snapshot any more.
        if let Some(beyond) = history.records().next_back().filter(|r| r.revision > backup.revision) {
            let why = format!("is beyond the backup's own revision {}", backup.revision);
            return Err(Problems::one("history", beyond.revision, why, "take another backup"));
        }
        let config = Config::try_from(&backup.config.clone().unwrap_or_default())?;
        Ok(Arc::new(config))
    }

    /// Who is believed after `command`, if it says anything of that.
    fn trusting(&self, command: &Command) -> Result<Option<Arc<Trust>>, Problems> {
        let next = |change| self.trust.changed(change, command.at_unix_ms, self.roll.next()).map(Arc::new);
        command.trust.as_ref().map(next).transpose()
    }

    fn believe(&mut self, trust: Option<Arc<Trust>>) {
        if let Some(trust) = trust {
            self.trust = trust;
        }
    }

    /// The revision a request with this id led to, if it was applied before.
    pub fn already(&self, request_id: &str) -> Option<u64> {
        self.requests.done.get(request_id).copied()
    }

    /// Takes over what a backup holds, which [`State::restorable`] has read before.
    fn become_as(&mut self, backup: &Backup) {
        let history = History::try_from(backup.history.as_slice());
        let config = Config::try_from(&backup.config.clone().unwrap_or_default());
        if let (Ok(history), Ok(config)) = (history, config) {
            // Numbers only rise: whoever waits for one here waits for the right one.
            self.revision = self.revision.max(backup.revision);
            self.history = history;
            self.config = Arc::new(config);
        }
    }

    /// Applies a committed command.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        if let Some(revision) = self.already(&command.request_id) {
            return Outcome::Done { revision };
        }
        let trust = match self.trusting(command) {
            Ok(trust) => trust,
            Err(problems) => return Outcome::Refused { problems, revision: self.revision },
        };
        if command.admit {
            self.believe(trust);
            return Outcome::Admitted { node: self.roll.take() };
        }
        if command.raise_level > 0 {
            self.level = self.level.max(command.raise_level);
            self.history.begin_with(command.history_from);
            return Outcome::Done { revision: self.revision };
        }
        if trust.is_some() && command.edits.is_empty() {
            self.believe(trust);
            self.requests.remember(&command.request_id, self.revision);
            return Outcome::Done { revision: self.revision };
        }
        match self.plan(command) {
            Err(problems) => Outcome::Refused { problems, revision: self.revision },
            Ok(config) => {
                self.believe(trust);
                if let Some(backup) = &command.restore {
                    self.become_as(backup);
                }
                self.revision += 1;
                let undo = Undo::between(&self.config, &config);
                self.history.push(Record::of(command, self.revision, &undo, &config), undo);
                self.config = Arc::new(config);
                self.changed_at_unix_ms = command.at_unix_ms;
                self.changed_by.clone_from(&command.actor);
                self.requests.remember(&command.request_id, self.revision);
                Outcome::Done { revision: self.revision }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    //! Golden scripts: `scripts/*.txt`. A line `> [id=ID] [expect=N] [back=N] edit; edit` is applied; what follows is what came of it.
    //! `> upgraded`: it was restarted from the snapshot of a build that knew no history.
    //! `UPDATE_SCRIPTS=1 cargo test` writes what comes of it now.

    use std::fmt::Write as _;

    use super::*;
    use tandem_proto::config::v1 as pb;
    use tandem_proto::config::v1::edit::Edit;

    #[test]
    fn golden_scripts() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/scripts");
        let mut ran = 0;
        for file in std::fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            let script = std::fs::read_to_string(&path).unwrap();
            let played = play(&script);
            if std::env::var_os("UPDATE_SCRIPTS").is_some() {
                std::fs::write(&path, &played).unwrap();
                continue;
            }
            assert_eq!(played, script, "{}", path.display());
            ran += 1;
        }
        let updated = std::env::var_os("UPDATE_SCRIPTS").is_some();
        assert!(updated || ran >= 5, "the scripts are not where they are looked for");
    }

    #[test]
    fn after_a_raise_all_nodes_go_back_to_the_same() {
        let edits = |words: &str| command(words);
        let told = [
            edits("add-upstream a"),
            edits("add-upstream b"),
            edits("add-backend a 10.0.0.1:80"),
            edits("rm-upstream b"),
        ];
        // Upgraded after so many changes each: what came before is in the snapshot of the older build, without its history.
        let mut nodes = [0, 1, 3].map(|upgraded| {
            let mut state = State::default();
            for (n, command) in told.iter().enumerate() {
                if n == upgraded {
                    state.history = History::default();
                }
                state.apply(command);
            }
            state
        });
        assert_ne!(nodes[0], nodes[1], "that is what the raise mends");
        let from = nodes.iter().map(|n| n.history.begins_with(n.revision)).max().unwrap();
        let raise = Command { raise_level: 3, history_from: from, ..Command::default() };
        let back = Command { rollback_to: Some(from - 1), ..Command::default() };
        let too_far = Command { rollback_to: Some(from - 2), ..Command::default() };
        let outcomes = nodes.each_mut().map(|n| [&raise, &too_far, &back].map(|command| n.apply(command)));
        assert!(outcomes.iter().all(|o| *o == outcomes[0]), "{outcomes:?}");
        assert!(matches!(outcomes[0][1], Outcome::Refused { .. }) && outcomes[0][2] == Outcome::Done { revision: 5 });
        assert!(nodes.iter().all(|n| *n == nodes[0]));
    }

    fn play(script: &str) -> String {
        let mut state = State::default();
        let mut out = String::new();
        for line in script.lines().filter(|l| l.is_empty() || l.starts_with(['#', '>', '?'])) {
            writeln!(out, "{line}").unwrap();
            if line == "? config" {
                out.push_str(&indent(&tandem_proto::document::render(&state.config)));
            } else if line == "? history" {
                state.history.records().for_each(|r| out.push_str(&told(r)));
            } else if line == "? restart" {
                let again = State::restored(
                    state.revision,
                    (*state.config).clone(),
                    (state.changed_at_unix_ms, state.changed_by.clone()),
                    History::try_from(state.history.messages().as_slice()).unwrap(),
                    state.requests().map(|(id, at)| (id.to_owned(), at)),
                );
                let again = State { roll: restored(&state.roll), level: state.level, ..again };
                assert_eq!(again, state);
                state = again;
            } else if line == "? level" {
                writeln!(out, "  {}", state.level).unwrap();
            } else if line == "? roll" {
                let ids = |all: &mut dyn Iterator<Item = u64>| format!("{:?}", all.collect::<Vec<_>>());
                let (members, removed) = (ids(&mut state.roll.members()), ids(&mut state.roll.removed()));
                writeln!(out, "  members {members} removed {removed} next {}", state.roll.next()).unwrap();
            } else if let Some(ids) = line.strip_prefix("> members ") {
                state.roll.members_are(ids.split_whitespace().map(|id| id.parse::<u64>().unwrap()));
            } else if line == "> upgraded" {
                state.history = History::default();
            } else if let Some(words) = line.strip_prefix("> ") {
                match state.apply(&command(words)) {
                    Outcome::Done { revision } => writeln!(out, "  done: revision {revision}").unwrap(),
                    Outcome::Admitted { node } => writeln!(out, "  admitted: node {node}").unwrap(),
                    Outcome::Refused { problems, revision } => {
                        writeln!(out, "  refused at revision {revision}:").unwrap();
                        out.push_str(&indent(&problems.to_string()));
                    }
                }
            }
        }
        out
    }

    fn told(r: &Record) -> String {
        let mut line = format!("    {} by {}", r.revision, r.actor);
        r.rollback_to.iter().for_each(|to| write!(line, ", back to {to}").unwrap());
        if !r.restored_from.is_empty() {
            write!(line, ", restored from {}", r.restored_from).unwrap();
        }
        r.touched.iter().for_each(|t| write!(line, "; {:?} {}", t.what, t.path).unwrap());
        if r.touched_more > 0 {
            write!(line, "; and {} more", r.touched_more).unwrap();
        }
        line + "\n"
    }

    fn restored(roll: &Roll) -> Roll {
        Roll::restored(roll.next(), roll.members(), roll.removed())
    }

    fn indent(text: &str) -> String {
        text.lines().filter(|l| !l.is_empty()).map(|l| format!("    {l}\n")).collect()
    }

    fn command(words: &str) -> Command {
        let mut command = Command { actor: "script".into(), ..Default::default() };
        let mut rest = words;
        while let Some((word, after)) = rest.split_once(' ') {
            if let Some(id) = word.strip_prefix("id=") {
                command.request_id = id.into();
            } else if let Some(n) = word.strip_prefix("expect=") {
                command.expect_revision = n.parse().ok();
            } else if let Some(n) = word.strip_prefix("back=") {
                command.rollback_to = n.parse().ok();
            } else {
                break;
            }
            rest = after;
        }
        match rest.split_once(' ') {
            None if rest == "admit" => return Command { admit: true, ..command },
            Some(("raise", level)) => {
                let (level, from) = level.split_once(" from=").unwrap_or((level, "0"));
                let (raise_level, history_from) = (level.parse().unwrap(), from.parse().unwrap());
                return Command { raise_level, history_from, ..command };
            }
            _ => {}
        }
        command.edits =
            rest.split(';').filter(|e| e.trim() != "-").map(|e| pb::Edit { edit: edit(e.trim()) }).collect();
        command
    }

    fn edit(text: &str) -> Option<Edit> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let backend = |address: &str| Some(pb::Backend { address: address.into(), ..Default::default() });
        Some(match *words.as_slice() {
            ["add-listener", name, address] => {
                Edit::AddListener(pb::Listener { name: name.into(), address: address.into(), ..Default::default() })
            }
            ["rm-listener", name] => Edit::RemoveListener(name.into()),
            ["add-route", name, host, path, upstream] => Edit::AddRoute(pb::Route {
                name: name.into(),
                host: host.into(),
                path: path.into(),
                upstream: upstream.into(),
                ..Default::default()
            }),
            ["rm-route", name] => Edit::RemoveRoute(name.into()),
            ["add-upstream", name] => Edit::AddUpstream(pb::Upstream { name: name.into(), ..Default::default() }),
            ["set-balance", name, balance] => Edit::SetUpstream(pb::SetUpstream {
                name: name.into(),
                balance: pb::Balance::from_str_name(balance).map(Into::into),
                ..Default::default()
            }),
            ["rm-upstream", name] => Edit::RemoveUpstream(name.into()),
            ["add-backend", upstream, address] => {
                Edit::AddBackend(pb::AddBackend { upstream: upstream.into(), backend: backend(address) })
            }
            ["weight", upstream, address, weight] => Edit::SetBackend(pb::SetBackend {
                upstream: upstream.into(),
                address: address.into(),
                weight: weight.parse().ok(),
                ..Default::default()
            }),
            ["drain", upstream, address] => Edit::SetBackend(pb::SetBackend {
                upstream: upstream.into(),
                address: address.into(),
                state: Some(pb::BackendState::Draining.into()),
                ..Default::default()
            }),
            ["rm-backend", upstream, address] => {
                Edit::RemoveBackend(pb::RemoveBackend { upstream: upstream.into(), address: address.into() })
            }
            ["add-vip", name, address] => Edit::AddVip(pb::Vip { name: name.into(), address: address.into() }),
            ["rm-vip", name] => Edit::RemoveVip(name.into()),
            ["unknown"] => return None,
            _ => panic!("no edit: {text}"),
        })
    }
}
