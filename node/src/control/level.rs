//! What a node must know to apply a command. Pure.
//!
//! A cluster has a level: what every member knows. The leader raises it, by a command of its own, once all have said that
//! they know more; a command that needs more than that is refused, with the names of those to upgrade. A node that is given
//! an entry beyond its own level stops: its data plane goes on, and nothing is applied by halves.
//!
//! Who adds a kind of command, an edit or a field that changes what is applied, raises [`LEVEL`] with the first of a release
//! and says so in [`needed`].

use tandem_proto::config::v1::edit::Edit as Kind;
use tandem_proto::config::v1::{Command, Edit};

/// What this build knows. 1: everything before nodes could be admitted. 2: admission, trust, and levels themselves.
/// 3: histories begin alike, so that a rollback finds the same everywhere; frames of routes; restore, which may bring both.
pub const LEVEL: u32 = 3;
/// From here on all histories are the same. A node that was upgraded from 1 tells of what came after its own last snapshot.
pub(super) const SAME_HISTORY: u32 = 3;

/// The lowest level that applies `command` as it is meant.
pub(super) fn needed(command: &Command) -> u32 {
    // A backup brings a config and what takes it back, and there may be frames in either.
    let of_3 =
        command.rollback_to.is_some() || command.restore.is_some() || command.edits.iter().any(looks_after_frames);
    let of_2 = command.admit || command.raise_level > 0 || command.trust.is_some();
    let lowest = match (of_3, of_2) {
        (true, _) => 3,
        (false, true) => 2,
        (false, false) => 1,
    };
    // Who cannot apply what comes after a level cannot read a state of that level either.
    lowest.max(command.raise_level)
}

/// A node that does not know of frames would keep a config without them.
fn looks_after_frames(edit: &Edit) -> bool {
    match &edit.edit {
        Some(Kind::AddRoute(route) | Kind::SetRoute(route)) => route.frames.is_some(),
        Some(Kind::Replace(config)) => config.routes.iter().any(|route| route.frames.is_some()),
        _ => false,
    }
}

/// A level as it was said: builds from before there were levels say nothing.
pub fn said(level: u32) -> u32 {
    level.max(1)
}

/// What this node and all who were asked know, and who keeps it below what this node knows. Whoever gives no answer may know no
/// more than the log says all do, `now`.
pub(super) fn common(now: u32, answers: impl IntoIterator<Item = (String, Result<u32, String>)>) -> (u32, Vec<String>) {
    let (mut lowest, mut old) = (LEVEL, Vec::new());
    for (name, answer) in answers {
        let (level, why) = match answer {
            Ok(level) => (said(level), format!("{name} (level {})", said(level))),
            Err(why) => (said(now), format!("{name} ({why})")),
        };
        if level < LEVEL {
            old.push(why);
        }
        lowest = lowest.min(level);
    }
    (lowest, old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_applies_all_it_can_ask_for() {
        let frames = Some(tandem_proto::config::v1::Frames::default());
        let route = tandem_proto::config::v1::Route { frames, ..Default::default() };
        let all = [
            Command::default(),
            Command { admit: true, ..Command::default() },
            Command { raise_level: LEVEL, ..Command::default() },
            Command { rollback_to: Some(1), ..Command::default() },
            Command { restore: Some(tandem_proto::config::v1::Backup::default()), ..Command::default() },
            Command { edits: vec![Edit { edit: Some(Kind::SetRoute(route)) }], ..Command::default() },
        ];
        assert_eq!(all.each_ref().map(needed), [1, 2, LEVEL, 3, 3, 3]);
        assert!(all.iter().all(|c| needed(c) <= LEVEL));
        let next = Command { raise_level: LEVEL + 1, ..Command::default() };
        assert_eq!(needed(&next), LEVEL + 1, "who is below refuses it before it is stored");
    }

    #[test]
    fn one_old_build_or_one_silent_node_keeps_the_level_down() {
        let asked = |now, answers: &[(&str, Result<u32, &str>)]| {
            let answers = answers.iter().map(|(name, answer)| ((*name).to_owned(), answer.map_err(str::to_owned)));
            common(now, answers.collect::<Vec<_>>())
        };
        assert_eq!(asked(0, &[("b", Ok(LEVEL)), ("w", Ok(LEVEL + 1))]), (LEVEL, vec![]));
        assert_eq!(asked(0, &[("b", Ok(0)), ("w", Ok(LEVEL))]), (1, vec!["b (level 1)".to_owned()]));
        assert_eq!(asked(0, &[("b", Err("no answer")), ("w", Ok(LEVEL))]), (1, vec!["b (no answer)".to_owned()]));
        assert_eq!(asked(LEVEL, &[("b", Err("no answer"))]), (LEVEL, vec![]), "it never sinks");
    }
}
