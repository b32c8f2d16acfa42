//! A node that answers from a script, and the real tandemctl to ask it.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tandem_proto::admin::v1::admin_server::{Admin, AdminServer};
use tandem_proto::admin::v1::change_reply::{Done, Outcome, Refused};
use tandem_proto::admin::v1::{
    BackupRequest, ChangeReply, DrainReply, DrainRequest, Field, GetConfigReply, GetConfigRequest, HistoryReply,
    HistoryRequest, LevelsReply, LevelsRequest, MoveVipReply, MoveVipRequest, NodeLevels, Plan, PlanReply, SealReply,
    SealRequest, SetMemberReply, SetMemberRequest, StatusReply, StatusRequest, Step, WatchRequest, plan_reply,
};
use tandem_proto::config::v1::{Backup, Command, Config, Problem, Record, Touch, What};
use tandem_proto::model::SEALED;
use tandem_proto::trust::v1 as trust;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};

/// What the node says to one change or move. The last of a script is said for ever.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Done(u64, Vec<String>),
    Refused(u64, Vec<Problem>),
    /// Another one leads.
    Leads(String),
    NoLeader,
    /// A refusal in the node's own words.
    Deny(Code, &'static str),
    /// Takes it, and breaks.
    Break,
    /// Takes it, and is silent.
    Nothing,
}

#[derive(Debug, Default)]
struct Inner {
    script: Mutex<VecDeque<Say>>,
    changes: Mutex<Vec<Command>>,
    moves: Mutex<Vec<MoveVipRequest>>,
    seals: Mutex<Vec<SealRequest>>,
    drains: Mutex<Vec<DrainRequest>>,
    members: Mutex<Vec<SetMemberRequest>>,
    status: Mutex<StatusReply>,
    config: Mutex<GetConfigReply>,
    past: Mutex<Vec<(Record, Config)>>,
    plans: Mutex<Vec<Command>>,
}

/// One node on a free loopback port; it ends with the test's runtime.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) address: String,
    inner: Arc<Inner>,
}

impl Node {
    pub(crate) async fn start(script: impl IntoIterator<Item = Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self { address: listener.local_addr().unwrap().to_string(), inner: Arc::default() };
        node.will(script);
        let server = Server::builder().add_service(AdminServer::new(node.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        node
    }

    pub(crate) fn will(&self, script: impl IntoIterator<Item = Say>) {
        *self.inner.script.lock().unwrap() = script.into_iter().collect();
    }

    pub(crate) fn is(&self, status: StatusReply) {
        *self.inner.status.lock().unwrap() = status;
    }

    pub(crate) fn has(&self, config: GetConfigReply) {
        *self.inner.config.lock().unwrap() = config;
    }

    pub(crate) fn changes(&self) -> Vec<Command> {
        self.inner.changes.lock().unwrap().clone()
    }

    pub(crate) fn moves(&self) -> Vec<MoveVipRequest> {
        self.inner.moves.lock().unwrap().clone()
    }

    pub(crate) fn seals(&self) -> Vec<SealRequest> {
        self.inner.seals.lock().unwrap().clone()
    }

    pub(crate) fn drains(&self) -> Vec<DrainRequest> {
        self.inner.drains.lock().unwrap().clone()
    }

    /// Revisions there were, the first numbered 1; the last is the config it has.
    pub(crate) fn had(&self, past: Vec<(Record, Config)>) {
        let (record, config) = past.last().unwrap().clone();
        self.has(GetConfigReply { revision: record.revision, config: Some(config), ..Default::default() });
        *self.inner.past.lock().unwrap() = past;
    }

    pub(crate) fn plans(&self) -> Vec<Command> {
        self.inner.plans.lock().unwrap().clone()
    }

    fn records(&self) -> Vec<Record> {
        self.inner.past.lock().unwrap().iter().map(|(record, _)| record.clone()).collect()
    }

    pub(crate) fn members(&self) -> Vec<SetMemberRequest> {
        self.inner.members.lock().unwrap().clone()
    }

    fn next(&self) -> Say {
        let mut script = self.inner.script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script.front().expect("a script").clone() }
    }

    /// The two outcomes only a change has, or the error any request can get.
    async fn say(&self) -> Result<Outcome, Status> {
        match self.next() {
            Say::Done(revision, notes) => Ok(Outcome::Done(Done { revision, notes })),
            Say::Refused(revision, problems) => Ok(Outcome::Refused(Refused { problems, revision })),
            Say::Leads(leader) => {
                let mut status = Status::failed_precondition("not the leader");
                status.metadata_mut().insert("tandem-leader", leader.parse().unwrap());
                Err(status)
            }
            Say::NoLeader => Err(Status::unavailable("no leader is known; a majority of voters is needed")),
            Say::Deny(code, why) => Err(Status::new(code, why)),
            Say::Break => Err(Status::internal("the node broke")),
            Say::Nothing => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl Admin for Node {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Ok(Response::new(self.inner.status.lock().unwrap().clone()))
    }

    async fn get_config(&self, ask: Request<GetConfigRequest>) -> Result<Response<GetConfigReply>, Status> {
        let now = self.inner.config.lock().unwrap().clone();
        let Some(revision) = ask.into_inner().revision.filter(|r| *r != now.revision) else {
            return Ok(Response::new(now));
        };
        let past = self.inner.past.lock().unwrap();
        let then = past.iter().find(|(r, _)| r.revision == revision).map(|(_, config)| config.clone());
        match then.or((revision == 0).then(Config::default)) {
            Some(config) => Ok(Response::new(GetConfigReply { revision, config: Some(config), ..Default::default() })),
            None => Err(Status::not_found("revision = \"99\": is not kept; choose one of 1 to 3")),
        }
    }

    async fn history(&self, ask: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        let HistoryRequest { before, limit } = ask.into_inner();
        let records = self.records().into_iter().rev().filter(|r| before == 0 || r.revision < before);
        Ok(Response::new(HistoryReply { records: records.take(limit as usize).collect(), oldest_config: 2 }))
    }

    type WatchStream = tokio_stream::Iter<std::vec::IntoIter<Result<Record, Status>>>;

    /// Tells one revision, then breaks: whoever wants the next must ask again. What is too old it has forgotten.
    async fn watch(&self, ask: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let after = ask.into_inner().after.unwrap();
        let next =
            self.records().into_iter().find(|r| r.revision > after).ok_or_else(|| Status::not_found("no more"))?;
        let told = if after == 0 {
            Err(Status::out_of_range("the history does not reach back to revision 0"))
        } else {
            Ok(next)
        };
        Ok(Response::new(tokio_stream::iter(vec![told])))
    }

    /// Says of every change that it drains a backend.
    async fn plan(&self, request: Request<Command>) -> Result<Response<PlanReply>, Status> {
        self.inner.plans.lock().unwrap().push(request.into_inner());
        let outcome = match self.say().await? {
            Outcome::Refused(refused) => plan_reply::Outcome::Refused(refused),
            Outcome::Done(done) => {
                let touch = Touch { path: "upstreams.chat.backends.10.0.1.1:9000".into(), what: What::Changed.into() };
                let value = |value: &str| Some(format!("\"{value}\""));
                let field = Field { key: "state".into(), before: value("active"), after: value("draining") };
                let (sessions, ends, ends_within_ms) = (17, 17, 600_000);
                let drained = Step { touch: Some(touch), fields: vec![field], sessions, ends, ends_within_ms };
                let touch = Touch { path: "listeners.side".into(), what: What::Removed.into() };
                let gone = Step { touch: Some(touch), sessions: 3, ..Default::default() };
                let steps = vec![drained, gone];
                plan_reply::Outcome::Plan(Plan { revision: done.revision, steps, notes: done.notes })
            }
        };
        Ok(Response::new(PlanReply { outcome: Some(outcome) }))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Backup>, Status> {
        let now = self.inner.config.lock().unwrap().clone();
        let (cluster, made_at_unix_ms) = ("old".to_owned(), 1_790_000_000_000);
        let history = self.records();
        Ok(Response::new(Backup { cluster, made_at_unix_ms, revision: now.revision, config: now.config, history }))
    }

    async fn change(&self, request: Request<Command>) -> Result<Response<ChangeReply>, Status> {
        self.inner.changes.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ChangeReply { outcome: Some(self.say().await?) }))
    }

    async fn move_vip(&self, request: Request<MoveVipRequest>) -> Result<Response<MoveVipReply>, Status> {
        self.inner.moves.lock().unwrap().push(request.into_inner());
        self.say().await?;
        Ok(Response::new(MoveVipReply { from: "a".into(), to: "b".into(), took_ms: 9 }))
    }

    /// Seals whatever it gets, if it has a secret.
    async fn seal(&self, request: Request<SealRequest>) -> Result<Response<SealReply>, Status> {
        if self.inner.status.lock().unwrap().answered_by == "witness" {
            return Err(Status::failed_precondition("w has no secret to seal with"));
        }
        self.inner.seals.lock().unwrap().push(request.into_inner());
        Ok(Response::new(SealReply { sealed_key: [SEALED, b"key"].concat(), problems: Vec::new() }))
    }

    /// Known nodes have 17 sessions; b is the only other one that takes clients.
    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let ask = request.into_inner();
        self.inner.drains.lock().unwrap().push(ask.clone());
        match ask.node.as_str() {
            "a" => Ok(Response::new(DrainReply { sessions: 17, notes: Vec::new() })),
            "b" => Ok(Response::new(DrainReply { sessions: 17, notes: vec!["no other proxy takes clients".into()] })),
            other => Err(Status::invalid_argument(format!("no proxy is called {other:?}; known: a, b"))),
        }
    }

    /// Whoever it is about is node 4, and then there are four voters.
    async fn set_member(&self, request: Request<SetMemberRequest>) -> Result<Response<SetMemberReply>, Status> {
        self.inner.members.lock().unwrap().push(request.into_inner());
        self.say().await?;
        let notes = vec!["4 voters tolerate no more failures than 3".into()];
        Ok(Response::new(SetMemberReply { node: 4, done: true, voters: 4, notes }))
    }

    async fn create_token(
        &self,
        request: Request<trust::CreateTokenRequest>,
    ) -> Result<Response<trust::CreateTokenReply>, Status> {
        self.say().await?;
        let ask = request.into_inner();
        let token = format!("TDM1.PIN.{}.SECRET", if ask.witness { "w1" } else { "p1" });
        let hosts = vec!["10.0.0.1:7442".into(), "10.0.0.2:7442".into()];
        Ok(Response::new(trust::CreateTokenReply { token, expires_at: ask.ttl_ms, hosts }))
    }

    /// One that was used, and one that expired long ago.
    async fn tokens(&self, _: Request<trust::TokensRequest>) -> Result<Response<trust::TokensReply>, Status> {
        let used = trust::Used { node: 3, ..Default::default() };
        let first = trust::Token { id: "w1".into(), witness: true, used: Some(used), ..Default::default() };
        let second = trust::Token { id: "p1".into(), made_by: "anna".into(), expires_at: 1, ..Default::default() };
        Ok(Response::new(trust::TokensReply { tokens: vec![first, second] }))
    }

    async fn remove_token(
        &self,
        request: Request<trust::RemoveTokenRequest>,
    ) -> Result<Response<trust::RemoveTokenReply>, Status> {
        match request.into_inner().id.as_str() {
            "p1" => Ok(Response::new(trust::RemoveTokenReply {})),
            other => Err(Status::failed_precondition(format!("token = {other:?}: is not known here"))),
        }
    }

    /// The old one, and the new one that signs.
    async fn authorities(
        &self,
        _: Request<trust::AuthoritiesRequest>,
    ) -> Result<Response<trust::AuthoritiesReply>, Status> {
        let old = trust::AuthorityReport { fingerprint: "0a".repeat(32), ..Default::default() };
        let (fingerprint, nodes) = ("0b".repeat(32), vec!["a".into(), "w".into()]);
        let new = trust::AuthorityReport { fingerprint, signs: true, not_after_s: i64::MAX, nodes };
        Ok(Response::new(trust::AuthoritiesReply { authorities: vec![old, new] }))
    }

    async fn rotate_authority(&self, _: Request<trust::RotateRequest>) -> Result<Response<trust::RotateReply>, Status> {
        self.say().await?;
        Ok(Response::new(trust::RotateReply { fingerprint: "0b".repeat(32) }))
    }

    async fn retire_authority(&self, _: Request<trust::RetireRequest>) -> Result<Response<trust::RetireReply>, Status> {
        self.say().await?;
        Ok(Response::new(trust::RetireReply { fingerprints: vec!["0a".repeat(32)] }))
    }

    /// Two nodes that log what they are told, or warnings; a third is away.
    async fn levels(&self, request: Request<LevelsRequest>) -> Result<Response<LevelsReply>, Status> {
        let LevelsRequest { levels, node } = request.into_inner();
        let levels = if levels.is_empty() { "warn".to_owned() } else { levels };
        let logs = |name: &str| NodeLevels { name: name.into(), levels: levels.clone(), error: String::new() };
        let away = NodeLevels { name: "w".into(), error: "no answer in time".into(), ..Default::default() };
        let nodes = [logs("a"), logs("b"), away];
        Ok(Response::new(LevelsReply {
            nodes: nodes.into_iter().filter(|n| node.is_empty() || n.name == node).collect(),
        }))
    }
}

/// Where nobody listens: a port that was free a moment ago.
pub(crate) async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Takes connections and never says a word, as a stopped process does.
pub(crate) async fn frozen() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().to_string(), listener)
}

/// How a run of tandemctl ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// stdout is one JSON document and nothing else.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

/// Runs the real program: `line` is split at blanks.
pub(crate) async fn tandemctl(nodes: &[&str], line: &str) -> Ran {
    tandemctl_fed(nodes, line, "").await
}

/// The same with something on stdin.
pub(crate) async fn tandemctl_fed(nodes: &[&str], line: &str, stdin: &str) -> Ran {
    tandemctl_with(nodes, line, stdin, &[]).await
}

/// The same with something more in the environment.
pub(crate) async fn tandemctl_with(nodes: &[&str], line: &str, stdin: &str, env: &[(&str, &str)]) -> Ran {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_tandemctl"))
        .env("TANDEM_NODES", nodes.join(","))
        .env("TANDEM_BUNDLE", "")
        .env("USER", "alice")
        .env_remove("VISUAL")
        .envs(env.iter().copied())
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A run that is refused early does not read it.
    let _ = pipe.write_all(stdin.as_bytes()).await;
    drop(pipe);
    let done = child.wait_with_output().await.unwrap();
    Ran {
        code: done.status.code().unwrap(),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}
