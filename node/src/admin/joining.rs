//! The join port: a machine that shows a token becomes a member. It is open only while there is a token to show.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use tandem_proto::config::v1::Command;
use tandem_proto::join::v1 as pb;
use tandem_proto::papers::Identity;
use tandem_proto::raft::v1 as raft;
use tandem_proto::trust::v1::{Change, Redeem, Token, change};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::caller::{Caller, Source};
use super::port::{Asks, incoming};
use super::service::{Admin, Rooms};
use super::signing::{self, Desk};
use super::stamp::{unix_ms, unix_s};
use super::tokens::join_address;
use crate::config::Role;
use crate::control::trust::{Trust, open};
use crate::control::{Denial, Newcomer};
use crate::trust::key_hash;

/// How often it is looked whether the port must be open.
const LOOK: Duration = Duration::from_millis(500);
/// Tries an address has at once, and each second again; a secret has 128 bits, so this only keeps the noise down.
const TRIES: u32 = 8;
const AGAIN: Duration = Duration::from_secs(1);
/// A request is a few hundred bytes.
const MAX_MESSAGE: usize = 8 << 10;

/// Opens the port when a token lives, closes it when none does; until it is dropped.
pub async fn attend(admin: Admin, address: SocketAddr) {
    let mut tick = tokio::time::interval(LOOK);
    // Dropped, it closes.
    let mut port = JoinSet::new();
    let mut failed = false;
    loop {
        tick.tick().await;
        let wanted = admin.rooms().is_ok_and(|r| r.control.now().trust.awaits(unix_ms()));
        while port.try_join_next().is_some() {}
        match (port.is_empty(), wanted) {
            (false, false) => {
                port.shutdown().await;
                tracing::info!(%address, "the join port is closed: no token lives");
            }
            (true, true) => match TcpListener::bind(address).await {
                Ok(listener) => {
                    tracing::info!(%address, "the join port is open: a token lives");
                    port.spawn(serve(admin.clone(), listener));
                    failed = false;
                }
                Err(e) if !failed => {
                    tracing::error!(%address, "nobody can join here: {e}; free the join port, which is two above the node port");
                    failed = true;
                }
                Err(_) => {}
            },
            _ => {}
        }
    }
}

async fn serve(admin: Admin, listener: TcpListener) {
    let Some(desk) = admin.desk() else { return };
    let links = incoming(listener, desk.current(), Asks::Nothing);
    let join = pb::join_server::JoinServer::new(Joining { admin: admin.clone(), tries: Tries::default() });
    let ended = tonic::transport::Server::builder()
        .max_concurrent_streams(4)
        .timeout(Duration::from_secs(20))
        .add_service(join.max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming(links)
        .await;
    if let Err(e) = ended {
        tracing::warn!("the join port failed: {e}");
    }
}

struct Joining {
    admin: Admin,
    tries: Tries,
}

#[tonic::async_trait]
impl pb::join_server::Join for Joining {
    async fn redeem(&self, request: Request<pb::RedeemRequest>) -> Result<Response<pb::RedeemReply>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let from = caller.and_then(|c| if let Source::Address(a) = c.source { Some(a) } else { None });
        let ask = request.into_inner();
        let (token, name) = (ask.token_id.clone(), ask.name.clone());
        let answer = match from {
            Some(from) if !self.tries.take(from.ip(), Instant::now()) => {
                Err(Status::resource_exhausted("too many tries from this address; wait a few seconds"))
            }
            _ => self.admin.redeem(ask).await,
        };
        if let (Err(why), Some(from)) = (&answer, from)
            && why.code() != tonic::Code::ResourceExhausted
        {
            // They are a stranger's words: quoted, so that they stay on their line.
            tracing::warn!(peer = %from, ?token, ?name, "refused to join: {}", why.message());
        }
        answer.map(Response::new)
    }
}

/// The token, if the secret is its own. Which of id and secret is wrong is not told, nor by the time it takes.
fn checked<'a>(trust: &'a Trust, id: &str, secret: &[u8]) -> Result<&'a Token, Status> {
    let hash = digest(&SHA256, secret);
    let nobody = [0; 32];
    let token = trust.tokens.get(id);
    let kept = token.map_or(nobody.as_slice(), |t| t.secret_hash.as_slice());
    let same = verify_slices_are_equal(hash.as_ref(), kept).is_ok();
    token.filter(|_| same).ok_or_else(|| {
        let why = "this token is not known here: it was never made, was removed, or was used long ago";
        Status::permission_denied(format!("{why}; make a new one on a member: tandemctl token create"))
    })
}

impl Admin {
    async fn redeem(&self, mut ask: pb::RedeemRequest) -> Result<pb::RedeemReply, Status> {
        let rooms = self.as_leader().map_err(at_join_port)?;
        let secret = Zeroizing::new(std::mem::take(&mut ask.secret));
        let (who, desk) = (self.who(), self.desk().ok_or_else(|| Status::internal("no papers"))?);
        let trust = rooms.control.now().trust.clone();
        let token = checked(&trust, &ask.token_id, &secret)?;
        let hash = key_hash(&ask.request).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let (wanted, role) = (ask.role(), if token.witness { Role::Witness } else { Role::Proxy });
        let fits = match role {
            Role::Witness => wanted != raft::Role::Proxy,
            Role::Proxy => wanted != raft::Role::Witness,
        };
        if !fits {
            let why = if token.witness { "this token is for a witness" } else { "this token is for a proxy" };
            return Err(Status::permission_denied(format!("{why}; make the other: tandemctl token create")));
        }
        let identity = match &token.used {
            Some(used) if used.key_hash == hash && open(token, unix_ms()) => self.again(rooms, used.node)?,
            Some(_) => {
                let why = "this token was used before, and lets one machine in";
                return Err(Status::permission_denied(format!("{why}; make another: tandemctl token create")));
            }
            None => {
                let redeem = Redeem { token: ask.token_id.clone(), key_hash: hash };
                let newcomer = Newcomer { name: ask.name.clone(), address: ask.address.clone(), role, voter: true };
                let command = Command {
                    actor: format!("token {}", ask.token_id),
                    at_unix_ms: unix_ms(),
                    trust: Some(Change { change: Some(change::Change::Redeem(redeem)) }),
                    ..Default::default()
                };
                rooms.control.admit_with(newcomer, command).await.map_err(|e| self.denial(e))?
            }
        };
        self.papers_for(rooms, desk, &ask.request, identity, role).inspect(|_| {
            tracing::info!(token = %ask.token_id, node = %ask.name, address = %ask.address, "joined; {} signed", who.name);
        })
    }

    fn papers_for(
        &self,
        rooms: &Rooms,
        desk: &Desk,
        request: &[u8],
        identity: raft::Identity,
        role: Role,
    ) -> Result<pb::RedeemReply, Status> {
        let (who, trust) = (self.who(), rooms.control.now().trust.clone());
        let witness = role == Role::Witness;
        let name = Identity::new(&identity.cluster_id, signing::member(identity.node, witness));
        let certificate_pem = signing::sign(&trust, who.secrets.as_deref(), request, &name, desk.life, unix_s())
            .map_err(|e| Status::unavailable(format!("{}: {e}", who.name)))?;
        let secrets = match desk.secrets.as_ref().filter(|_| !witness) {
            None => String::new(),
            Some(file) => std::fs::read_to_string(file)
                .map_err(|e| Status::internal(format!("{}: cannot read {}: {e}", who.name, file.display())))?,
        };
        let role = if witness { raft::Role::Witness } else { raft::Role::Proxy };
        Ok(pb::RedeemReply {
            identity: Some(identity),
            role: role.into(),
            certificate_pem,
            authorities_pem: signing::believed(&trust),
            timers: who.timers.clone(),
            secrets,
        })
    }

    /// The answer to a newcomer that has not got the first one.
    fn again(&self, rooms: &Rooms, node: u64) -> Result<raft::Identity, Status> {
        rooms.control.identity_of(node).ok_or_else(|| {
            let why = "the machine that used this token did not become a member";
            Status::failed_precondition(format!("{why}; make a new one: tandemctl token create"))
        })
    }

    fn denial(&self, e: Denial) -> Status {
        match e {
            Denial::Control(e) => at_join_port(self.refusal(&e)),
            Denial::Refused(problems) => Status::permission_denied(problems.to_string()),
            Denial::Unfit(why) => Status::invalid_argument(why),
        }
    }
}

/// A newcomer is sent on to the join port of the leader, not to its node port.
fn at_join_port(mut status: Status) -> Status {
    let leader = status.metadata().get("tandem-leader").and_then(|v| v.to_str().ok()).and_then(join_address);
    if let Some(leader) = leader.and_then(|l| l.parse().ok()) {
        status.metadata_mut().insert("tandem-leader", leader);
    }
    status
}

/// How often each address may try.
#[derive(Default)]
struct Tries(Mutex<BTreeMap<IpAddr, (u32, Instant)>>);

impl Tries {
    fn take(&self, from: IpAddr, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, since)| now.saturating_duration_since(*since) < AGAIN * TRIES);
        let (used, since) = all.entry(from).or_insert((0, now));
        let back = u32::try_from(now.saturating_duration_since(*since).as_secs()).unwrap_or(TRIES);
        if back > 0 {
            (*used, *since) = (used.saturating_sub(back), now);
        }
        *used = (*used + 1).min(TRIES + 1);
        *used <= TRIES
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_tries_too_often_waits() {
        let (tries, start, ip) = (Tries::default(), Instant::now(), IpAddr::from([10, 0, 0, 9]));
        assert!((0..TRIES).all(|_| tries.take(ip, start)));
        assert!(!tries.take(ip, start));
        assert!(tries.take(IpAddr::from([10, 0, 0, 8]), start), "another one does not pay for it");
        assert!(tries.take(ip, start + Duration::from_secs(2)));
    }

    #[test]
    fn a_wrong_secret_and_an_unknown_token_are_one_answer() {
        let kept =
            Token { id: "t".into(), secret_hash: digest(&SHA256, &[1; 16]).as_ref().to_vec(), ..Default::default() };
        let trust = Trust { tokens: [("t".to_owned(), kept)].into(), ..Trust::default() };
        assert!(checked(&trust, "t", &[1; 16]).is_ok());
        let wrong = checked(&trust, "t", &[2; 16]).unwrap_err();
        let unknown = checked(&trust, "u", &[1; 16]).unwrap_err();
        assert_eq!((wrong.code(), wrong.message()), (unknown.code(), unknown.message()));
    }
}
