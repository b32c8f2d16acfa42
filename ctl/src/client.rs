//! Finds a node that can answer, and asks it.

use std::fmt;
use std::time::Duration;

use tandem_proto::admin::v1::admin_client::AdminClient;
use tandem_proto::admin::v1::{
    BackupRequest, ChangeReply, DrainReply, DrainRequest, GetConfigReply, GetConfigRequest, HistoryReply,
    HistoryRequest, LevelsReply, LevelsRequest, MoveVipReply, MoveVipRequest, PlanReply, ReportRequest, SealReply,
    SealRequest, SetMemberReply, SetMemberRequest, StatusReply, StatusRequest, WatchRequest,
};
use tandem_proto::config::v1::{Backup, Command, Record};
use tandem_proto::papers::{self, Current, Expect};
use tandem_proto::trust::v1 as trust;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use crate::search::Search;

/// Metadata in which a follower names the leader's host:port.
const LEADER: &str = "tandem-leader";
/// A node that does not take a connection within this is passed over.
const CONNECT: Duration = Duration::from_secs(1);
/// Between two rounds over all nodes; doubles up to the longest. An election takes about 300 ms.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// A node that is silent for twice as long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// A config of a hundred thousand backends is some 5 MB.
const LARGEST_ANSWER: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A node said no, and asking others would not help.
    #[error("{node}: {why}")]
    Denied { node: String, why: String },
    /// Nobody could answer in time.
    #[error("{0}")]
    Unreachable(Unreachable),
}

/// Who was asked, in vain.
#[derive(Debug)]
pub(crate) struct Unreachable {
    /// The whole time spent.
    pub(crate) within: Duration,
    /// Each node and its newest word.
    pub(crate) tried: Vec<(String, String)>,
    /// A request was sent whose answer never came.
    pub(crate) unsure: bool,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {}:", humantime::format_duration(self.within))?;
        let width = self.tried.iter().map(|(node, _)| node.len()).max().unwrap_or(0);
        for (node, why) in &self.tried {
            write!(f, "\n  {node:width$}  {why}")?;
        }
        write!(f, "\nSee that tandemd runs there and a majority of nodes is up, or name other nodes: --node HOST:PORT")
    }
}

/// May a request be sent a second time when nobody knows what became of the first?
#[derive(Debug, Clone, Copy, PartialEq)]
enum Again {
    /// Yes: it reads, or carries an id that applies once.
    Harmless,
    /// No: it would be done twice.
    Harmful,
}

/// What became of asking one node.
enum Attempt<T> {
    Answered(T),
    Denied(String),
    /// It is a follower; this is the leader.
    Leads(String),
    /// It works, but knows no leader.
    Leaderless(String),
    /// It was not reached; nothing was sent.
    Absent(String),
    /// The request was sent, the answer never came.
    Unsure(String),
}

/// The cluster, seen from outside.
#[derive(Debug)]
pub(crate) struct Client {
    nodes: Vec<String>,
    patience: Duration,
    papers: Option<Current>,
}

impl Client {
    /// Asks `nodes` in this order, for at most `patience` a question.
    pub(crate) fn new(nodes: Vec<String>, patience: Duration, papers: Option<Current>) -> Self {
        Self { nodes, patience, papers }
    }

    async fn connect(&self, node: &str) -> Result<AdminClient<Channel>, String> {
        connect(node, self.papers.as_ref()).await
    }

    /// A token with which one machine joins. Made twice, the first is of no use to anybody.
    pub(crate) async fn create_token(
        &self,
        request: &trust::CreateTokenRequest,
    ) -> Result<trust::CreateTokenReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.create_token(request.clone()).await).await
    }

    /// Every token.
    pub(crate) async fn tokens(&self) -> Result<trust::TokensReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.tokens(trust::TokensRequest {}).await).await
    }

    /// Makes a token useless.
    pub(crate) async fn remove_token(
        &self,
        request: &trust::RemoveTokenRequest,
    ) -> Result<trust::RemoveTokenReply, Error> {
        self.ask(Again::Harmful, async |mut node| node.remove_token(request.clone()).await).await
    }

    /// Who signs.
    pub(crate) async fn authorities(&self) -> Result<trust::AuthoritiesReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.authorities(trust::AuthoritiesRequest {}).await).await
    }

    /// Begins with a new authority.
    pub(crate) async fn rotate(&self, request: &trust::RotateRequest) -> Result<trust::RotateReply, Error> {
        self.ask(Again::Harmful, async |mut node| node.rotate_authority(request.clone()).await).await
    }

    /// Ends with the old one.
    pub(crate) async fn retire(&self, request: &trust::RetireRequest) -> Result<trust::RetireReply, Error> {
        self.ask(Again::Harmful, async |mut node| node.retire_authority(request.clone()).await).await
    }

    /// The whole cluster as some node can see it, with the backends that `reports` asks for.
    pub(crate) async fn status(&self, reports: &ReportRequest) -> Result<StatusReply, Error> {
        self.ask(Again::Harmless, async |node| status(node, reports).await).await
    }

    /// The config as some node has applied it.
    pub(crate) async fn config(&self) -> Result<GetConfigReply, Error> {
        self.config_of(None).await
    }

    /// The same as it was at a revision.
    pub(crate) async fn config_of(&self, revision: Option<u64>) -> Result<GetConfigReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.get_config(GetConfigRequest { revision }).await).await
    }

    /// Who changed what.
    pub(crate) async fn history(&self, request: HistoryRequest) -> Result<HistoryReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.history(request).await).await
    }

    /// Each revision after `after` (absent: after the newest) as some node applies it, until that node or the way breaks.
    pub(crate) async fn watch(&self, after: Option<u64>) -> Result<Streaming<Record>, Error> {
        self.ask(Again::Harmless, async |mut node| node.watch(WatchRequest { after }).await).await
    }

    /// What restores this cluster elsewhere.
    pub(crate) async fn backup(&self) -> Result<Backup, Error> {
        self.ask(Again::Harmless, async |mut node| node.backup(BackupRequest {}).await).await
    }

    /// What a change would do.
    pub(crate) async fn plan(&self, command: &Command) -> Result<PlanReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.plan(command.clone()).await).await
    }

    /// Both, from the same node.
    pub(crate) async fn config_and_status(
        &self,
        reports: &ReportRequest,
    ) -> Result<(GetConfigReply, StatusReply), Error> {
        let both = async |mut node: AdminClient<Channel>| {
            let twin = node.clone();
            let (config, status) =
                tokio::try_join!(node.get_config(GetConfigRequest::default()), status(twin, reports))?;
            Ok(Response::new((config.into_inner(), status.into_inner())))
        };
        self.ask(Again::Harmless, both).await
    }

    /// Changes the config, once, however often it has to be sent.
    pub(crate) async fn change(&self, command: &Command) -> Result<ChangeReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.change(command.clone()).await).await
    }

    /// Moves virtual IPs. Sent a second time only if the first was not taken.
    pub(crate) async fn move_vip(&self, request: &MoveVipRequest) -> Result<MoveVipReply, Error> {
        self.ask(Again::Harmful, async |mut node| node.move_vip(request.clone()).await).await
    }

    /// What nodes log, after it was changed if `request` says so.
    pub(crate) async fn levels(&self, request: &LevelsRequest) -> Result<LevelsReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.levels(request.clone()).await).await
    }

    /// A private key, sealed by the first node that can. Each is asked once: that it cannot does not change by waiting.
    pub(crate) async fn seal(&self, request: &SealRequest) -> Result<SealReply, Error> {
        let deadline = Instant::now() + self.patience;
        let seal = async |mut node: AdminClient<Channel>| node.seal(request.clone()).await;
        let (mut tried, mut denied) = (Vec::new(), None);
        for node in &self.nodes {
            let why = match self.attempt(node, Again::Harmless, deadline, &seal).await {
                Attempt::Answered(reply) => return Ok(reply),
                Attempt::Denied(why) => {
                    denied = Some(Error::Denied { node: node.clone(), why: why.clone() });
                    why
                }
                Attempt::Leads(why) | Attempt::Leaderless(why) | Attempt::Absent(why) | Attempt::Unsure(why) => why,
            };
            tried.push((node.clone(), why));
        }
        Err(denied.unwrap_or(Error::Unreachable(Unreachable { within: self.patience, tried, unsure: false })))
    }

    /// Takes a node out of service, or back; asked twice it is still one thing.
    pub(crate) async fn drain(&self, request: &DrainRequest) -> Result<DrainReply, Error> {
        self.ask(Again::Harmless, async |mut node| node.drain(request.clone()).await).await
    }

    /// Changes who is a member. Sent a second time only if the first was not taken.
    pub(crate) async fn set_member(&self, request: &SetMemberRequest) -> Result<SetMemberReply, Error> {
        self.ask(Again::Harmful, async |mut node| node.set_member(request.clone()).await).await
    }

    async fn ask<T>(
        &self,
        again: Again,
        call: impl AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.patience;
        let mut search = Search::new(&self.nodes);
        let mut pause = SHORTEST_PAUSE;
        let mut leaderless: Option<String> = None;
        let mut unsure = false;
        while Instant::now() < deadline {
            let Some(node) = search.next() else {
                sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
                search.again();
                if pause == LONGEST_PAUSE
                    && let Some(node) = leaderless.take()
                {
                    self.learn(&node, &mut search, deadline).await;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            };
            match self.attempt(&node, again, deadline, &call).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Denied(why) => return Err(Error::Denied { node, why }),
                Attempt::Leads(leader) => {
                    search.leader(&leader);
                    search.no_help(&node, format!("says that {leader} leads"));
                }
                Attempt::Leaderless(why) => {
                    search.no_help(&node, why);
                    leaderless = Some(node);
                }
                Attempt::Absent(why) => search.no_help(&node, why),
                Attempt::Unsure(why) => {
                    unsure = true;
                    search.no_help(&node, why);
                    if again == Again::Harmful {
                        break;
                    }
                }
            }
        }
        Err(Error::Unreachable(Unreachable { within: self.patience, tried: search.tried(), unsure }))
    }

    /// A node that knows no leader may be cut off, and still know the others: by its word a single `--node` is enough.
    async fn learn(&self, node: &str, search: &mut Search, deadline: Instant) {
        let ask = async { status(self.connect(node).await.ok()?, &ReportRequest::brief()).await.ok() };
        let wait = CONNECT.min(deadline.saturating_duration_since(Instant::now()));
        let Ok(Some(status)) = timeout(wait, ask).await else { return };
        let status = status.into_inner();
        let members: Vec<_> = status.nodes.into_iter().filter_map(|n| n.member).collect();
        let leader = members.iter().find(|m| m.id == status.leader).map(|m| m.address.clone());
        search.learned(members.into_iter().map(|m| m.address));
        if let Some(leader) = leader {
            search.leader(&leader);
        }
    }

    /// Asks one node; leaves time for others, if asking them too does no harm.
    async fn attempt<T>(
        &self,
        node: &str,
        again: Again,
        deadline: Instant,
        call: &impl AsyncFn(AdminClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Attempt<T> {
        let client = match timeout_at(deadline, self.connect(node)).await {
            Ok(Ok(client)) => client,
            Ok(Err(why)) => return Attempt::Absent(why),
            Err(_) => return Attempt::Absent("takes no connection".to_owned()),
        };
        let until = match again {
            Again::Harmless => deadline.min(Instant::now() + (self.patience / 3).max(Duration::from_millis(500))),
            Again::Harmful => deadline,
        };
        match timeout_at(until, call(client)).await {
            Err(_) => Attempt::Unsure("took the request and did not answer".to_owned()),
            Ok(Ok(answer)) => Attempt::Answered(answer.into_inner()),
            Ok(Err(status)) => judge(&status),
        }
    }
}

async fn status(mut node: AdminClient<Channel>, reports: &ReportRequest) -> Result<Response<StatusReply>, Status> {
    let mut reply = node.status(StatusRequest { reports: Some(reports.clone()) }).await?;
    for report in reply.get_mut().nodes.iter_mut().filter_map(|n| n.report.as_mut()) {
        // A node that is older than these counts tells everything.
        report.count();
    }
    Ok(reply)
}

async fn connect(node: &str, papers: Option<&Current>) -> Result<AdminClient<Channel>, String> {
    // A socket's path is a URI as it stands (gRPC naming: unix:PATH); who may open the file needs no certificate.
    let local = node.starts_with("unix:");
    let endpoint = if local { Endpoint::from_shared(node.to_owned()) } else { papers::endpoint(node) };
    let endpoint = endpoint.map_err(|e| format!("is no address: {}", root(&e)))?;
    // Whoever waits long for an answer hears of a node that is gone.
    let endpoint =
        endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE).connect_timeout(CONNECT);
    let connected = match papers.filter(|_| !local) {
        None => endpoint.connect().await,
        Some(papers) => endpoint.connect_with_connector(papers::connector(papers.clone(), Expect::AnyNode)).await,
    };
    let channel = connected.map_err(|e| root(&e))?;
    Ok(AdminClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
}

/// What a node's refusal means for the search.
fn judge<T>(status: &Status) -> Attempt<T> {
    let why = status.message().to_owned();
    if std::error::Error::source(status).is_some() {
        // Not the node's word: the connection broke under the request.
        return Attempt::Unsure(format!("the connection broke: {}", root(status)));
    }
    let leader = status.metadata().get(LEADER).and_then(|v| v.to_str().ok());
    match (status.code(), leader) {
        (Code::FailedPrecondition | Code::Unavailable, Some(leader)) if !leader.is_empty() => {
            Attempt::Leads(leader.to_owned())
        }
        (Code::Unavailable, _) => Attempt::Leaderless(if why.is_empty() { "knows no leader".to_owned() } else { why }),
        (Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted, _) => {
            Attempt::Unsure(if why.is_empty() { status.code().description().to_owned() } else { why })
        }
        (Code::Unimplemented, _) => {
            Attempt::Denied("does not know this request; give tandemctl and tandemd the same version".to_owned())
        }
        (code, _) => Attempt::Denied(if why.is_empty() { code.description().to_owned() } else { why }),
    }
}

/// The innermost reason, which is the one a person can act on.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
