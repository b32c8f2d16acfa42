//! A client that writes and remembers: what it sent, what it was told, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{Command, Edit as Edits, Upstream, Vip};
use tokio::runtime::Runtime;
use tonic::{Code, Status};

use crate::chance::Chance;
use crate::network::{Host, Message, Network, Port};
use crate::node::{CHANGE, MOVE};
use crate::trace::Trace;

/// The address all clusters here share out.
pub(crate) const ADDRESS: &str = "10.0.0.100";

/// What a writer asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    Vip,
    Add(String),
    Remove(String),
}

/// A change and what became of it, as far as the client knows.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) wish: Wish,
    /// Ms of the world.
    pub(crate) sent_at: u64,
    /// When it was told, and the revision.
    pub(crate) done: Option<(u64, u64)>,
    /// The cluster said no, for good.
    pub(crate) refused: bool,
}

/// All that was asked, by request id.
#[derive(Clone, Default)]
pub(crate) struct Memories(Arc<Mutex<Kept>>);

/// What [`Memories`] are.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) now: u64,
    pub(crate) all: BTreeMap<String, Memory>,
    /// The newest revision anybody was told.
    pub(crate) newest: u64,
    /// The same request was told two revisions, or two requests the same one.
    pub(crate) wrong: Option<String>,
}

impl Memories {
    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn done(&mut self, id: &str, revision: u64) {
        let taken = self.all.iter().find(|(other, m)| *other != id && m.done.is_some_and(|(_, at)| at == revision));
        if let Some((other, _)) = taken {
            self.wrong = Some(format!("{id} and {other} were both told revision {revision}"));
        }
        self.newest = self.newest.max(revision);
        let now = self.now;
        let Some(memory) = self.all.get_mut(id) else { return };
        if let Some((_, before)) = memory.done
            && before != revision
        {
            self.wrong = Some(format!("{id} was told revision {before}, then {revision}"));
        }
        memory.done = Some((now, revision));
    }
}

/// The clients' machine.
pub(crate) struct Clients {
    runtime: Runtime,
}

impl Clients {
    /// Writers, each one change after another; they rest while `memories` are not asked for more.
    pub(crate) fn start(
        host: Host,
        nodes: usize,
        network: &Network,
        memories: &Memories,
        trace: &Trace,
        mut chance: Chance,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let (port, _) = network.on(host);
        for name in ["first", "second"] {
            let chance = Chance::new(chance.number(), 7);
            let (port, memories, trace) = (port.clone(), memories.clone(), trace.clone());
            runtime.spawn(Writer { name, nodes, port, memories, trace, chance, leader: 0, mine: Vec::new() }.run());
        }
        Ok(Self { runtime })
    }

    /// Asks whoever leads to hand over to `to`; nobody waits for the answer.
    pub(crate) fn move_to(&self, port: Port, leader: Host, to: u64) {
        self.runtime.spawn(async move { port.ask(leader, Message::plain(MOVE, to.to_be_bytes().to_vec())).await });
    }

    pub(crate) fn tick(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }
}

struct Writer {
    name: &'static str,
    nodes: usize,
    port: Port,
    memories: Memories,
    trace: Trace,
    chance: Chance,
    leader: Host,
    /// What it knows to be there.
    mine: Vec<String>,
}

impl Writer {
    async fn run(mut self) {
        if self.name == "first" {
            self.write("vip".to_owned(), Wish::Vip, u64::MAX).await;
        }
        for n in 0.. {
            let wish = match self.mine.len() {
                1.. if self.chance.percent(40) => Wish::Remove(self.mine.remove(0)),
                _ => Wish::Add(format!("{}-{n}", self.name)),
            };
            let patience = if self.chance.percent(20) { 1 } else { 40 };
            let done = self.write(format!("{}/{n}", self.name), wish.clone(), patience).await;
            if let (true, Wish::Add(name)) = (done, wish) {
                self.mine.push(name);
            }
            let rest = self.chance.between(0, 120);
            tokio::time::sleep(Duration::from_millis(rest)).await;
        }
    }

    /// Sends it until it is done or refused, at most so many times: then nobody knows.
    async fn write(&mut self, id: String, wish: Wish, tries: u64) -> bool {
        let edit = match &wish {
            Wish::Vip => Edit::AddVip(Vip { name: "service".to_owned(), address: ADDRESS.to_owned() }),
            Wish::Add(name) => Edit::AddUpstream(Upstream { name: name.clone(), ..Default::default() }),
            Wish::Remove(name) => Edit::RemoveUpstream(name.clone()),
        };
        let command = Command {
            request_id: id.clone(),
            actor: self.name.to_owned(),
            edits: vec![Edits { edit: Some(edit) }],
            ..Default::default()
        };
        {
            let mut kept = self.memories.kept();
            let memory = Memory { wish, sent_at: kept.now, done: None, refused: false };
            kept.all.insert(id.clone(), memory);
        }
        let message = Message::plain(CHANGE, command.encode_to_vec());
        for _ in 0..tries {
            let ask = self.port.ask(self.leader, message.clone());
            let answer = tokio::time::timeout(Duration::from_millis(400), ask).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(reply) => {
                    let revision = reply.body.as_ref().try_into().map_or(0, u64::from_be_bytes);
                    self.trace.say(|| format!("{id} is done: revision {revision}"));
                    self.memories.kept().done(&id, revision);
                    return true;
                }
                Err(status) if status.code() == Code::InvalidArgument => {
                    self.trace.say(|| format!("{id} is refused: {}", status.message()));
                    if let Some(memory) = self.memories.kept().all.get_mut(&id) {
                        memory.refused = true;
                    }
                    return false;
                }
                Err(status) => self.look_elsewhere(&status).await,
            }
        }
        self.trace.say(|| format!("{id} is given up: nobody knows"));
        false
    }

    async fn look_elsewhere(&mut self, status: &Status) {
        let told = status.message().strip_prefix("node-").and_then(|n| n.parse().ok()).filter(|n| *n < self.nodes);
        self.leader = told.unwrap_or_else(|| self.chance.index(self.nodes));
        let pause = self.chance.between(5, 60);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
