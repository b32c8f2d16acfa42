//! What a command line asks for: a look, a change and the sentence that says it was made, or a move. Pure.

use std::path::PathBuf;
use std::time::Duration;

use tandem_proto::admin::v1::set_member_request::Change as Members;
use tandem_proto::admin::v1::{DrainRequest, HistoryRequest, LevelsRequest, MoveVipRequest, NewMember};
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;

use super::certificate::Place;
use super::route;
use super::words::{backend, bounds, check, eject, listener_tls, millis, settings, several, sharing, upstream_tls};
use crate::args::{
    Backend, Backends, Ca, Certificate, Command, Config, Door, Files, Listener, Log, Node, Part, Route, RouteRequest,
    RouteWhat, Settings, Token, Upstream, Vip,
};

/// What a command line asks for.
#[derive(Debug)]
pub(super) enum Task {
    /// See; nothing changes.
    Look(Look),
    /// See again and again.
    Watch,
    /// See each revision as it comes.
    Revisions { after: Option<u64> },
    /// Write the config to this file.
    Export { file: PathBuf, revision: Option<u64> },
    /// Write everything to this file.
    Backup(PathBuf),
    /// Change the config.
    Change(Wanted),
    /// Hand virtual IPs over.
    Move(MoveVipRequest),
    /// Take a node out of service, or back.
    Drain(DrainRequest),
    /// See what nodes log, or change it.
    Levels(LevelsRequest),
    /// Who may join.
    Token(Token),
    /// Who signs.
    Ca(Ca),
    /// Change who is a member, or who votes.
    Members(Members),
}

/// A change of the config, as it is said.
#[derive(Debug)]
pub(super) enum Wanted {
    /// These edits.
    Edits(Change),
    /// Make the config what this file says.
    Apply(PathBuf),
    /// Make everything what this file says.
    Restore(PathBuf),
    /// The changes of this file, as one.
    Transaction(PathBuf),
    /// What the operator writes.
    Edit,
    /// Change a route as it is now.
    SetRoute { name: String, what: Box<RouteWhat>, clear: Vec<Part> },
    /// Put a certificate there, once a node has sealed its key.
    PutCertificate { place: Place, name: String, files: Files },
}

/// What there is to see.
#[derive(Debug)]
pub(super) enum Look {
    Status,
    Nodes,
    Upstreams,
    Backends { upstream: Option<String> },
    Routes,
    RouteTest(RouteRequest),
    Listeners,
    Certificates,
    Vips,
    Settings,
    Document { revision: Option<u64> },
    Check { file: PathBuf },
    DiffFile { file: PathBuf },
    DiffRevision { revision: u64 },
    History(HistoryRequest),
}

/// Edits, made all together or not at all.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// They begin with what was then.
    pub(super) rollback_to: Option<u64>,
    /// They begin with this.
    pub(super) restore: Option<Box<pb::Backup>>,
    pub(super) edits: Vec<Edit>,
    /// What there is to say once they are made.
    pub(super) done: String,
}

impl Task {
    pub(super) fn of(command: Command) -> Self {
        match command {
            Command::Status { watch: true } => Self::Watch,
            Command::Status { watch: false } => Self::Look(Look::Status),
            Command::Upstream(command) => Self::of_upstream(command),
            Command::Backend(command) => Self::of_backend(command),
            Command::Route(command) => Self::of_route(command),
            Command::Listener(command) => Self::of_listener(command),
            Command::Certificate(command) => Self::of_certificate(command),
            Command::Vip(command) => Self::of_vip(command),
            Command::Settings(Settings::Show) => Self::Look(Look::Settings),
            Command::Settings(Settings::Set(set)) => {
                Self::one(Edit::SetSettings(settings(&set)), "settings set; they hold for new connections".to_owned())
            }
            Command::Config(command) => Self::of_config(command),
            Command::Transaction { file } => Self::Change(Wanted::Transaction(file)),
            Command::Backup { file } => Self::Backup(file),
            Command::Restore { file } => Self::Change(Wanted::Restore(file)),
            Command::Node(node) => Self::of_node(node),
            Command::Token(command) => Self::Token(command),
            Command::Ca(command) => Self::Ca(command),
            Command::Log(Log::Show) => Self::Levels(LevelsRequest::default()),
            Command::Log(Log::Set { levels, on }) => {
                Self::Levels(LevelsRequest { levels, node: on.unwrap_or_default() })
            }
        }
    }

    fn of_config(command: Config) -> Self {
        match command {
            Config::Show { revision } => Self::Look(Look::Document { revision }),
            Config::Export { file, revision } => Self::Export { file, revision },
            Config::Check { file } => Self::Look(Look::Check { file }),
            Config::Diff { file: Some(file), .. } => Self::Look(Look::DiffFile { file }),
            Config::Diff { file: None, revision } => {
                Self::Look(Look::DiffRevision { revision: revision.unwrap_or_default() })
            }
            Config::Apply { file } => Self::Change(Wanted::Apply(file)),
            Config::Edit => Self::Change(Wanted::Edit),
            Config::History { limit, before } => {
                Self::Look(Look::History(HistoryRequest { limit, before: before.unwrap_or(0) }))
            }
            Config::Rollback { revision } => Self::edits(Change {
                rollback_to: Some(revision),
                done: format!("config is again that of revision {revision}"),
                ..Default::default()
            }),
            Config::Watch { after } => Self::Revisions { after },
        }
    }

    fn edits(change: Change) -> Self {
        Self::Change(Wanted::Edits(change))
    }

    fn put(place: Place, name: String, files: Files) -> Self {
        Self::Change(Wanted::PutCertificate { place, name, files })
    }

    fn of_node(command: Node) -> Self {
        match command {
            Node::Ls => Self::Look(Look::Nodes),
            Node::Add { name, address, role, learner } => {
                let new = NewMember { name, address, role: role.map_or(0, Into::into), learner: Some(learner) };
                Self::Members(Members::Add(new))
            }
            Node::Replace { name, address } => {
                let address = address.unwrap_or_default();
                Self::Members(Members::Replace(NewMember { name, address, ..Default::default() }))
            }
            Node::Rm { name } => Self::Members(Members::Remove(name)),
            Node::Promote { name } => Self::Members(Members::Promote(name)),
            Node::Demote { name } => Self::Members(Members::Demote(name)),
            Node::Drain { name, within } => {
                let within_ms = within.map(|within| u64::from(millis(within)));
                Self::Drain(DrainRequest { node: name, resume: false, within_ms })
            }
            Node::Resume { name } => Self::Drain(DrainRequest { node: name, resume: true, within_ms: None }),
        }
    }

    fn one(edit: Edit, done: String) -> Self {
        Self::edits(Change { edits: vec![edit], done, ..Default::default() })
    }

    fn each(names: Vec<String>, thing: &str, done: &str, edit: impl Fn(String) -> Edit) -> Self {
        let done = format!("{} {done}", several(thing, &names));
        Self::edits(Change { edits: names.into_iter().map(edit).collect(), done, ..Default::default() })
    }

    fn of_upstream(command: Upstream) -> Self {
        match command {
            Upstream::Add { name, how, backends } => {
                let with = if backends.is_empty() {
                    " without a backend yet".to_owned()
                } else {
                    let addresses: Vec<String> = backends.iter().map(|b| b.address.clone()).collect();
                    format!(" with {}", several("backend", &addresses))
                };
                let done = format!("upstream {name} added{with}");
                let with = sharing(&how.sharing);
                let mut set = pb::SetUpstream { name: name.clone(), ..Default::default() };
                bounds(&how.bounds, &mut set);
                upstream_tls(&how.tls, &mut set);
                let upstream = pb::Upstream {
                    name,
                    hash_on: with.hash_on.unwrap_or_default(),
                    hash_bound: with.hash_bound.unwrap_or(0),
                    sticky: with.sticky,
                    slow_start_ms: with.slow_start_ms.unwrap_or(0),
                    zone_min_share: with.zone_min_share.unwrap_or(0),
                    balance: how.balance.map_or(0, |b| pb::Balance::from(b).into()),
                    check: check(&how),
                    eject: eject(&how),
                    backends: backends.into_iter().map(backend).collect(),
                    ..Default::default()
                };
                let mut edits = vec![Edit::AddUpstream(upstream)];
                if set != (pb::SetUpstream { name: set.name.clone(), ..Default::default() }) {
                    edits.push(Edit::SetUpstream(set));
                }
                Self::edits(Change { edits, done, ..Default::default() })
            }
            Upstream::Set { name, how } => {
                let done = format!("upstream {name} set");
                let balance = how.balance.map(|b| pb::Balance::from(b).into());
                let mut set = pb::SetUpstream { name, balance, ..sharing(&how.sharing) };
                (set.check, set.eject) = (check(&how), eject(&how));
                bounds(&how.bounds, &mut set);
                upstream_tls(&how.tls, &mut set);
                Self::one(Edit::SetUpstream(set), done)
            }
            Upstream::Rm { names } => Self::each(names, "upstream", "removed", Edit::RemoveUpstream),
            Upstream::Ls => Self::Look(Look::Upstreams),
        }
    }

    fn of_backend(command: Backend) -> Self {
        match command {
            Backend::Add { which: Backends { upstream, addresses }, weight, zone, backup, max_sessions } => {
                let done = format!("added to {upstream}");
                Self::each(addresses, "backend", &done, |address| {
                    let (weight, zone) = (weight.unwrap_or(0), zone.clone().unwrap_or_default());
                    let max_sessions = max_sessions.unwrap_or(0);
                    let backend = pb::Backend { address, weight, zone, backup, max_sessions, ..Default::default() };
                    Edit::AddBackend(pb::AddBackend { upstream: upstream.clone(), backend: Some(backend) })
                })
            }
            Backend::Rm(Backends { upstream, addresses }) => {
                let done = format!("removed from {upstream}");
                Self::each(addresses, "backend", &done, |address| {
                    Edit::RemoveBackend(pb::RemoveBackend { upstream: upstream.clone(), address })
                })
            }
            Backend::Set { which, weight, zone, backup, max_sessions } => {
                let weight_word = weight.map(|weight| format!("weight {weight}"));
                let zone_word =
                    zone.as_ref().map(|z| if z.is_empty() { "no zone".into() } else { format!("zone {z}") });
                let backup_word = backup.map(|b| if b { "backup".to_owned() } else { "no backup".to_owned() });
                let most_word =
                    max_sessions.map(|n| if n == 0 { "no limit".to_owned() } else { format!("{n} sessions at most") });
                let words: Vec<String> =
                    [weight_word, zone_word, backup_word, most_word].into_iter().flatten().collect();
                let set = pb::SetBackend { weight, zone, backup, max_sessions, ..Default::default() };
                Self::set_backends(which, set, &format!("set to {}", words.join(", ")))
            }
            Backend::Drain { which, within } => {
                let set =
                    pb::SetBackend { drain_within_ms: within.map(millis), ..in_state(pb::BackendState::Draining) };
                Self::set_backends(which, set, &format!("draining: no new sessions{}", ending(within)))
            }
            Backend::Resume(which) => {
                Self::set_backends(which, in_state(pb::BackendState::Active), "active: new sessions again")
            }
            Backend::Ls { upstream } => Self::Look(Look::Backends { upstream }),
        }
    }

    fn set_backends(which: Backends, set: pb::SetBackend, done: &str) -> Self {
        let Backends { upstream, addresses } = which;
        let done = format!("of {upstream} {done}");
        Self::each(addresses, "backend", &done, |address| {
            Edit::SetBackend(pb::SetBackend { upstream: upstream.clone(), address, ..set.clone() })
        })
    }

    fn of_route(command: Route) -> Self {
        match command {
            Route::Add { name, what } => Self::edits(route::add(name, *what)),
            Route::Set { name, what, clear } => Self::Change(Wanted::SetRoute { name, what, clear }),
            Route::Rm { names } => Self::each(names, "route", "removed", Edit::RemoveRoute),
            Route::Ls => Self::Look(Look::Routes),
            Route::Test(request) => Self::Look(Look::RouteTest(request)),
        }
    }

    fn of_listener(command: Listener) -> Self {
        match command {
            Listener::Add { name, address, http2, tls, door } => {
                let done = format!("listener {name} added on {address}");
                let http2 = http2.map_or(0, |h| pb::Http2::from(h).into());
                let mut listener = pb::Listener { name, address, http2, tls: listener_tls(&tls), ..Default::default() };
                open(&mut listener, door);
                Self::one(Edit::AddListener(listener), done)
            }
            Listener::Set { name, address, http2, tls, no_tls, door } => {
                let done = format!("listener {name} set");
                let set = pb::SetListener {
                    name,
                    address,
                    tls: listener_tls(&tls),
                    no_tls,
                    http2: http2.map(Into::into),
                    proxy_protocol: door.proxy_protocol.map(Into::into),
                    proxy_from: (!door.proxy_from.is_empty()).then_some(pb::Networks { networks: door.proxy_from }),
                    max_sessions: door.max_sessions,
                    ..Default::default()
                };
                Self::one(Edit::SetListener(set), done)
            }
            Listener::Rm { names } => Self::each(names, "listener", "removed", Edit::RemoveListener),
            Listener::Drain { names, within } => {
                let (state, drain_within_ms) = (Some(pb::BackendState::Draining.into()), within.map(millis));
                let done = format!("draining: new clients are answered 503{}", ending(within));
                Self::each(names, "listener", &done, |name| {
                    Edit::SetListener(pb::SetListener { name, state, drain_within_ms, ..Default::default() })
                })
            }
            Listener::Resume { names } => {
                let state = Some(pb::BackendState::Active.into());
                Self::each(names, "listener", "active: new clients again", |name| {
                    Edit::SetListener(pb::SetListener { name, state, ..Default::default() })
                })
            }
            Listener::Ls => Self::Look(Look::Listeners),
        }
    }

    fn of_certificate(command: Certificate) -> Self {
        match command {
            Certificate::Add { name, files } => Self::put(Place::New, name, files),
            Certificate::Set { name, files } => Self::put(Place::Taken, name, files),
            Certificate::Rm { names } => Self::each(names, "certificate", "removed", Edit::RemoveCertificate),
            Certificate::Ls => Self::Look(Look::Certificates),
        }
    }

    fn of_vip(command: Vip) -> Self {
        match command {
            Vip::Add { name, address } => {
                let done = format!("virtual IP {name} added: {address}");
                Self::one(Edit::AddVip(pb::Vip { name, address }), done)
            }
            Vip::Rm { names } => Self::each(names, "virtual IP", "removed", Edit::RemoveVip),
            Vip::Ls => Self::Look(Look::Vips),
            Vip::Move { name, to } => {
                Self::Move(MoveVipRequest { name: name.unwrap_or_default(), to: to.unwrap_or_default() })
            }
        }
    }
}

/// What becomes of the sessions that are left, if they are given a time.
pub(super) fn ending(within: Option<Duration>) -> String {
    within.map_or_else(String::new, |within| {
        format!("; sessions that are left end evenly within {}", humantime::format_duration(within))
    })
}

fn in_state(state: pb::BackendState) -> pb::SetBackend {
    pb::SetBackend { state: Some(state.into()), ..Default::default() }
}

/// What is not named stays as it is.
fn open(listener: &mut pb::Listener, door: Door) {
    if let Some(mode) = door.proxy_protocol {
        listener.proxy_protocol = pb::ProxyProtocol::from(mode).into();
    }
    if !door.proxy_from.is_empty() {
        listener.proxy_from = door.proxy_from;
    }
    if let Some(most) = door.max_sessions {
        listener.max_sessions = most;
    }
}
