//! Whatever was changed, each kept revision can be rebuilt, also after a restart.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;
use tandem_proto::config::v1::edit::Edit;

use super::*;
use crate::control::state::{Outcome, State};

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn address() -> impl Strategy<Value = String> {
    (1..5u8).prop_map(|n| format!("10.0.0.{n}:9000"))
}

/// Many of these are refused: they are tried on whatever is there.
fn edit() -> impl Strategy<Value = Edit> {
    let backend = |address: String, weight| pb::Backend { address, weight, ..Default::default() };
    prop_oneof![
        (name(), address()).prop_map(|(name, address)| Edit::AddListener(pb::Listener {
            name,
            address,
            ..Default::default()
        })),
        name().prop_map(Edit::RemoveListener),
        (name(), 1..9u32).prop_map(|(name, most)| Edit::SetListener(pb::SetListener {
            name,
            max_sessions: Some(most),
            ..Default::default()
        })),
        (name(), prop::collection::btree_map(address(), 1..9u32, 0..4)).prop_map(move |(name, all)| {
            let backends = all.into_iter().map(|(address, weight)| backend(address, weight)).collect();
            Edit::AddUpstream(pb::Upstream { name, backends, ..Default::default() })
        }),
        (name(), 1..9u32).prop_map(|(name, most)| Edit::SetUpstream(pb::SetUpstream {
            name,
            max_sessions: Some(most),
            ..Default::default()
        })),
        name().prop_map(Edit::RemoveUpstream),
        (name(), address(), 1..9u32).prop_map(move |(upstream, address, weight)| Edit::AddBackend(pb::AddBackend {
            upstream,
            backend: Some(backend(address, weight)),
        })),
        (name(), address(), 1..9u32).prop_map(|(upstream, address, weight)| Edit::SetBackend(pb::SetBackend {
            upstream,
            address,
            weight: Some(weight),
            ..Default::default()
        })),
        (name(), address())
            .prop_map(|(upstream, address)| Edit::RemoveBackend(pb::RemoveBackend { upstream, address })),
        (name(), name()).prop_map(|(name, upstream)| Edit::AddRoute(pb::Route {
            host: format!("{name}.example"),
            name,
            upstream,
            ..Default::default()
        })),
        name().prop_map(Edit::RemoveRoute),
        name().prop_map(|name| Edit::AddVip(pb::Vip { name, address: "10.0.0.100".to_owned() })),
        name().prop_map(Edit::RemoveVip),
        (1..9u32).prop_map(|most| Edit::SetSettings(pb::Settings { max_sessions: Some(most), ..Default::default() })),
        Just(Edit::Replace(pb::Config::default())),
    ]
}

fn command(edits: Vec<Edit>) -> pb::Command {
    let edits = edits.into_iter().map(|edit| pb::Edit { edit: Some(edit) }).collect();
    pb::Command { edits, ..Default::default() }
}

proptest! {
    #[test]
    fn every_kept_revision_is_rebuilt_as_it_was(
        changes in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..60),
        back in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut state = State::default();
        let mut were = vec![Arc::clone(&state.config)];
        for edits in changes {
            // One edit of several that is refused refuses all.
            for edits in [edits.clone(), edits.into_iter().take(1).collect()] {
                if let Outcome::Done { revision } = state.apply(&command(edits)) {
                    prop_assert_eq!(usize::try_from(revision).unwrap(), were.len());
                    were.push(Arc::clone(&state.config));
                }
            }
        }
        for to in back {
            let to = to.index(were.len());
            let wanted = state.history.oldest_config(state.revision);
            let rollback = pb::Command { rollback_to: Some(to as u64), ..Default::default() };
            let outcome = state.apply(&rollback);
            if to as u64 >= wanted {
                let revision = were.len() as u64;
                prop_assert_eq!(outcome, Outcome::Done { revision });
                prop_assert_eq!(&state.config, &were[to]);
                were.push(Arc::clone(&state.config));
            }
        }
        let oldest = usize::try_from(state.history.oldest_config(state.revision)).unwrap();
        prop_assert_eq!(oldest, were.len().saturating_sub(1 + UNDOS));
        let again = History::try_from(state.history.messages().as_slice()).unwrap();
        prop_assert_eq!(&again, &state.history);
        for (revision, was) in were.iter().enumerate() {
            let rebuilt = again.config(revision as u64, &state.config, state.revision);
            prop_assert_eq!(rebuilt.as_ref(), (revision >= oldest).then_some(&**was));
        }
    }
}

fn backend(n: u32) -> Edit {
    let backend = Some(pb::Backend { address: format!("10.{}.{}.1:9000", n / 250, n % 250), ..Default::default() });
    Edit::AddBackend(pb::AddBackend { upstream: format!("chat-{}", n % UPSTREAMS), backend })
}

const UPSTREAMS: u32 = 500;

/// Ten thousand backends in all.
fn large() -> State {
    let mut state = State::default();
    let upstream = |n| Edit::AddUpstream(pb::Upstream { name: format!("chat-{n}"), ..Default::default() });
    let all = (0..UPSTREAMS).map(upstream).chain((0..10_000).map(backend));
    assert_eq!(state.apply(&command(all.collect())), Outcome::Done { revision: 1 });
    state
}

#[test]
fn ten_thousand_backends_and_a_thousand_changes_make_a_small_history() {
    let mut state = large();
    for n in 10_000..10_000 + RECORDS as u32 + 7 {
        assert!(matches!(state.apply(&command(vec![backend(n)])), Outcome::Done { .. }));
    }
    assert_eq!(state.history.records().len(), RECORDS);
    assert_eq!(state.history.oldest_config(state.revision), state.revision - UNDOS as u64);
    let bytes: usize = state.history.messages().iter().map(Message::encoded_len).sum();
    assert!(bytes < 200_000, "{bytes} bytes");
}

#[test]
fn whole_documents_applied_again_and_again_stay_within_the_bytes() {
    let mut state = State::default();
    let whole = |weight| {
        let backends = (0..10_000u32).map(|n| pb::Backend {
            address: format!("10.{}.{}.1:9000", n / 250, n % 250),
            weight,
            ..Default::default()
        });
        let chat = pb::Upstream { name: "chat".to_owned(), backends: backends.collect(), ..Default::default() };
        command(vec![Edit::Replace(pb::Config { upstreams: vec![chat], ..Default::default() })])
    };
    for weight in 1..30 {
        state.apply(&whole(weight));
    }
    let bytes: usize = state.history.messages().iter().map(Message::encoded_len).sum();
    assert!(bytes < UNDO_BYTES + 100_000, "{bytes} bytes");
    let oldest = state.history.oldest_config(state.revision);
    assert!(0 < oldest && oldest < state.revision - 5, "{oldest} of {}", state.revision);
    let (oldest, then) = (state.config_of(oldest).unwrap(), state.config_of(oldest + 1).unwrap());
    assert_ne!(oldest, then);
    assert_eq!(state.history.records().len(), 29, "who did it is remembered all the same");
}

#[test]
fn a_watcher_gets_all_it_missed_or_hears_that_it_cannot() {
    let mut state = large();
    for n in 10_000..10_000 + RECORDS as u32 + 5 {
        state.apply(&command(vec![backend(n)]));
    }
    let revisions = |after| {
        let records = state.history.after(after, state.revision)?;
        Some(records.iter().map(|r| r.revision).collect::<Vec<_>>())
    };
    assert_eq!(revisions(state.revision), Some(vec![]));
    assert_eq!(revisions(state.revision - 2), Some(vec![state.revision - 1, state.revision]));
    assert_eq!(revisions(state.revision - RECORDS as u64).unwrap().len(), RECORDS);
    assert_eq!(revisions(0), None);
}

#[test]
fn a_restored_backup_goes_on_with_the_history_it_brings() {
    let mut old = State::default();
    for n in ["a", "b", "c"] {
        old.apply(&command(vec![Edit::AddUpstream(pb::Upstream { name: n.to_owned(), ..Default::default() })]));
    }
    let backup = pb::Backup {
        cluster: "old".to_owned(),
        revision: old.revision,
        config: Some((&*old.config).into()),
        history: old.history.messages(),
        ..Default::default()
    };
    let short = pb::Backup { revision: 1, ..backup.clone() };
    let short = pb::Command { restore: Some(short), ..Default::default() };
    assert!(matches!(State::default().apply(&short), Outcome::Refused { .. }), "its history ends after it");

    let restore = pb::Command { restore: Some(backup), ..Default::default() };
    let mut fresh = State::default();
    assert_eq!(fresh.apply(&restore), Outcome::Done { revision: 4 });
    assert_eq!(fresh.config, old.config);
    assert_eq!(fresh.config_of(1), old.config_of(1));
    assert_eq!(fresh.history.record(4).unwrap().restored_from, "old");

    let mut busy = State::default();
    for n in 0..9 {
        let name = format!("own-{n}");
        busy.apply(&command(vec![Edit::AddUpstream(pb::Upstream { name, ..Default::default() })]));
    }
    assert!(matches!(busy.apply(&restore), Outcome::Refused { .. }), "its config would be lost unasked");
    let meant = pb::Command { expect_revision: Some(9), ..restore };
    assert_eq!(busy.apply(&meant), Outcome::Done { revision: 10 });
    assert_eq!((&busy.config, busy.config_of(2)), (&old.config, old.config_of(2)));
    assert!(busy.config_of(9).is_err(), "what was replaced is gone");
}

#[test]
fn a_state_from_before_there_was_a_history_is_where_it_begins() {
    let old = large();
    let mut state =
        State::restored(41, (*old.config).clone(), (7, "alice".to_owned()), History::default(), std::iter::empty());
    assert_eq!((state.history.oldest_config(41), state.config_of(41).unwrap()), (41, (*old.config).clone()));
    assert!(state.config_of(40).is_err());
    assert_eq!(state.history.after(41, 41), Some(vec![]));
    assert_eq!(state.history.after(40, 41), None);
    for n in 10_000..10_100 {
        state.apply(&command(vec![backend(n)]));
    }
    assert_eq!(
        (state.history.oldest_config(state.revision), state.config_of(41).unwrap()),
        (41, (*old.config).clone())
    );
}
