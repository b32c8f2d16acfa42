//! What the leader writes on a change before it enters the log: its caller has no say in that.

use std::time::{SystemTime, UNIX_EPOCH};

use tandem_proto::Problems;
use tandem_proto::config::v1::Command;
use tonic::Request;

use super::caller::Caller;

/// What a record may hold of a caller's words, in bytes: there are a thousand records in every snapshot.
const MOST_NAME: usize = 256;
const MOST_REASON: usize = 1024;

/// When it came, from where, and from whom, where the connection proves that.
pub(super) fn stamp(request: Request<Command>) -> Command {
    let caller = request.extensions().get::<Caller>().cloned();
    let mut command = request.into_inner();
    command.at_unix_ms = unix_ms();
    command.source = caller.as_ref().map(|caller| caller.source.to_string()).unwrap_or_default();
    let proven = caller.as_ref().and_then(Caller::proven);
    command.actor_proven = proven.is_some();
    if let Some(name) = proven {
        name.clone_into(&mut command.actor);
    }
    // Not for operators.
    (command.admit, command.raise_level, command.trust) = (false, 0, None);
    command
}

/// Who asks, for the record: as the connection proves it, and where that proves nothing as was `said`.
pub(super) fn actor<T>(request: &Request<T>, said: &str) -> String {
    request.extensions().get::<Caller>().and_then(Caller::proven).unwrap_or(said).to_owned()
}

/// Words that are too long for the record.
pub(super) fn wordy(command: &Command) -> Problems {
    let mut problems = Problems::default();
    let words = [
        ("actor", &command.actor, MOST_NAME),
        ("request_id", &command.request_id, MOST_NAME),
        ("reason", &command.reason, MOST_REASON),
    ];
    for (what, said, most) in words {
        if said.len() > most {
            problems.add(what, "", format!("is {} bytes long", said.len()), format!("use at most {most}"));
        }
    }
    problems
}

/// The wall clock, for the record only.
#[allow(clippy::disallowed_methods)]
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, tandem_proto::millis)
}

/// The same in seconds, as certificates count.
pub fn unix_s() -> i64 {
    i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_says_of_time_source_and_proof_counts_for_nothing() {
        let said = Command {
            actor: "root".into(),
            source: "10.0.0.1".into(),
            actor_proven: true,
            at_unix_ms: 1,
            ..Default::default()
        };
        // No connection, so no address.
        let stamped = stamp(Request::new(said));
        assert_eq!((stamped.actor.as_str(), stamped.source.as_str(), stamped.actor_proven), ("root", "", false));
        assert!(stamped.at_unix_ms > 1_700_000_000_000);
    }

    #[test]
    fn a_proven_name_stands_before_what_was_said() {
        let mut request = Request::new(());
        assert_eq!(actor(&request, "root"), "root");
        let (name, role) = ("anna".to_owned(), crate::admin::Role::Admin);
        request.extensions_mut().insert(Caller { name, role, source: crate::admin::Source::Socket });
        assert_eq!(actor(&request, "root"), "anna");
    }

    #[test]
    fn words_too_long_for_the_record_are_all_told_of() {
        let at_most = Command { actor: "a".repeat(MOST_NAME), reason: "r".repeat(MOST_REASON), ..Default::default() };
        assert!(wordy(&at_most).is_empty());
        let long = Command { actor: "a".repeat(MOST_NAME + 1), reason: "r".repeat(5000), ..Default::default() };
        let told = wordy(&long).to_string();
        assert_eq!(told, "actor: is 257 bytes long; use at most 256\nreason: is 5000 bytes long; use at most 1024");
    }
}
