//! What operators ask of trust: tokens for machines that shall join, and authorities that come and go.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tandem_proto::admin::v1::ReportRequest;
use tandem_proto::config::v1::Command;
use tandem_proto::token::Token;
use tandem_proto::trust::v1 as pb;
use tandem_proto::trust::v1::change::Change;
use tonic::Status;
use zeroize::Zeroizing;

use super::service::{Admin, Rooms};
use super::signing;
use super::stamp::{unix_ms, unix_s};
use crate::control::state::Outcome;
use crate::control::trust::Trust;
use crate::control::{Member, Role};

/// A token's life, if nothing else is said.
pub const HOUR: Duration = Duration::from_secs(3600);
/// Nobody needs one for longer: it opens the join port.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far above its node port a node's join port is; between them is where `/metrics` usually are.
pub const ABOVE: u16 = 2;

/// The join port of a node.
pub fn join_port(node: SocketAddr) -> SocketAddr {
    SocketAddr::new(node.ip(), node.port().saturating_add(ABOVE))
}

/// The same of an address in words.
pub(super) fn join_address(node: &str) -> Option<String> {
    let (host, port) = node.rsplit_once(':')?;
    Some(format!("{host}:{}", port.parse::<u16>().ok()?.checked_add(ABOVE)?))
}

/// A new token for the cluster whose authority has this fingerprint: what the operator carries, and what the log keeps.
///
/// # Errors
/// The system has no randomness to give.
pub fn fresh(pin: [u8; 32], witness: bool, expires_at: u64, made_by: &str) -> Result<(Token, pb::Token), String> {
    let mut secret = Zeroizing::new([0; 16]);
    let mut id = [0; 4];
    let none = |_| "the system gives no randomness".to_owned();
    aws_lc_rs::rand::fill(&mut *secret).map_err(none)?;
    aws_lc_rs::rand::fill(&mut id).map_err(none)?;
    let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let secret_hash = digest(&SHA256, &*secret).as_ref().to_vec();
    let kept = pb::Token { id: id.clone(), secret_hash, witness, expires_at, made_by: made_by.to_owned(), used: None };
    Ok((Token { pin, id, secret }, kept))
}

/// The 32 bytes a fingerprint in hex is of.
pub fn pin_of(fingerprint: &str) -> Option<[u8; 32]> {
    let byte = |at: usize| u8::from_str_radix(fingerprint.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..fingerprint.len()).step_by(2).map(byte).collect();
    bytes?.try_into().ok()
}

fn untrusting() -> Status {
    let why = "this cluster has no certificates: its node ports authenticate nobody, and nodes are named in [peers]";
    Status::failed_precondition(format!("{why}; a cluster with certificates begins with: tandemd init"))
}

impl Admin {
    /// Puts a change of trust into the log.
    pub(super) async fn trust(&self, rooms: &Rooms, change: Change, actor: String) -> Result<(), Status> {
        let change = pb::Change { change: Some(change) };
        let command = Command { trust: Some(change), actor, at_unix_ms: unix_ms(), ..Default::default() };
        match rooms.control.propose(command).await {
            Ok(Outcome::Refused { problems, .. }) => Err(Status::failed_precondition(problems.to_string())),
            Ok(_) => Ok(()),
            Err(e) => Err(self.refusal(&e)),
        }
    }

    pub(super) async fn new_token(&self, ask: pb::CreateTokenRequest) -> Result<pb::CreateTokenReply, Status> {
        let rooms = self.as_leader()?;
        let life = if ask.ttl_ms == 0 { HOUR } else { Duration::from_millis(ask.ttl_ms) };
        if life > LONGEST {
            return Err(Status::invalid_argument("a token lives for a week at most: it keeps the join port open"));
        }
        let state = rooms.control.now();
        let pin = pin_of(&state.trust.signer).ok_or_else(untrusting)?;
        let expires_at = unix_ms().saturating_add(tandem_proto::millis(life));
        let (token, kept) = fresh(pin, ask.witness, expires_at, &ask.actor).map_err(Status::internal)?;
        self.trust(rooms, Change::AddToken(kept), ask.actor).await?;
        tracing::info!(token = %token.id, witness = ask.witness, "a token was made");
        Ok(pb::CreateTokenReply { token: token.to_string(), expires_at, hosts: self.doors(rooms) })
    }

    /// Join ports, the leader's first.
    fn doors(&self, rooms: &Rooms) -> Vec<String> {
        let here = rooms.control.here();
        let mut proxies: Vec<&Member> = here.members.values().filter(|m| m.role == Role::Proxy).collect();
        proxies.sort_by_key(|m| Some(m.id) != here.leader);
        proxies.iter().filter_map(|m| join_address(&m.address)).collect()
    }

    pub(super) fn known_tokens(&self) -> Result<pb::TokensReply, Status> {
        let state = self.rooms()?.control.now();
        let without_hash = |t: &pb::Token| pb::Token { secret_hash: Vec::new(), ..t.clone() };
        Ok(pb::TokensReply { tokens: state.trust.tokens.values().map(without_hash).collect() })
    }

    pub(super) async fn drop_token(&self, ask: pb::RemoveTokenRequest) -> Result<pb::RemoveTokenReply, Status> {
        let rooms = self.as_leader()?;
        self.trust(rooms, Change::RemoveToken(ask.id), ask.actor).await?;
        Ok(pb::RemoveTokenReply {})
    }

    pub(super) async fn known_authorities(&self) -> Result<pb::AuthoritiesReply, Status> {
        let rooms = self.rooms()?;
        let trust = rooms.control.now().trust.clone();
        let nodes = self.gather(rooms, &ReportRequest::brief()).await;
        let signed_by = |fingerprint: &str| {
            let reports = nodes.iter().filter_map(|n| n.report.as_ref());
            let mine = reports.filter(|r| r.papers.as_ref().is_some_and(|p| p.signer == fingerprint));
            mine.map(|r| r.name.clone()).collect()
        };
        let report = |a: &crate::control::trust::Authority| pb::AuthorityReport {
            fingerprint: a.fingerprint.clone(),
            signs: a.fingerprint == trust.signer,
            not_after_s: a.not_after(),
            nodes: signed_by(&a.fingerprint),
        };
        Ok(pb::AuthoritiesReply { authorities: trust.authorities.iter().map(report).collect() })
    }

    pub(super) async fn rotate(&self, actor: String) -> Result<pb::RotateReply, Status> {
        let rooms = self.as_leader()?;
        let who = self.who();
        if rooms.control.now().trust.signer.is_empty() {
            return Err(untrusting());
        }
        let Some(secrets) = &who.secrets else {
            return Err(Status::unavailable(format!("{} leads and has no secret; ask again in a moment", who.name)));
        };
        let (authority, _) = signing::authority(&who.cluster, secrets, unix_s()).map_err(Status::internal)?;
        let fingerprint = signing::fingerprint_of(&authority.certificate_pem).unwrap_or_default();
        self.trust(rooms, Change::AddAuthority(authority), actor).await?;
        tracing::info!(%fingerprint, "a new authority is believed; it signs once every node believes it");
        Ok(pb::RotateReply { fingerprint })
    }

    pub(super) async fn retire(&self, actor: String) -> Result<pb::RetireReply, Status> {
        let rooms = self.as_leader()?;
        let trust = rooms.control.now().trust.clone();
        if trust.authorities.len() < 2 {
            return Err(Status::failed_precondition(
                "one authority is believed, and it signs; begin with: tandemctl ca rotate",
            ));
        }
        let nodes = self.gather(rooms, &ReportRequest::brief()).await;
        let is_late = |n: &&tandem_proto::admin::v1::NodeStatus| {
            let papers = n.report.as_ref().and_then(|r| r.papers.as_ref());
            papers.is_none_or(|p| p.signer != trust.signer)
        };
        let late: Vec<String> =
            nodes.iter().filter(is_late).filter_map(|n| n.member.as_ref()).map(|m| m.name.clone()).collect();
        if trust.authorities.last().is_some_and(|a| a.fingerprint != trust.signer) {
            let mend = "it does as soon as every node believes it; see: tandemctl ca ls";
            return Err(Status::failed_precondition(format!("the new authority does not sign yet; {mend}")));
        }
        if !late.is_empty() {
            let why = format!("certificates of the old authority are still in use by: {}", late.join(", "));
            let mend = "nodes renew theirs by themselves within seconds; bring up those that are down, or remove them";
            return Err(Status::failed_precondition(format!("{why}; {mend}")));
        }
        let old = old_ones(&trust);
        for fingerprint in &old {
            self.trust(rooms, Change::RemoveAuthority(fingerprint.clone()), actor.clone()).await?;
        }
        Ok(pb::RetireReply { fingerprints: old })
    }
}

fn old_ones(trust: &Trust) -> Vec<String> {
    trust.authorities.iter().filter(|a| a.fingerprint != trust.signer).map(|a| a.fingerprint.clone()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_keeps_of_a_token_does_not_hold_its_secret() {
        let (token, kept) = fresh([3; 32], true, 9, "anna").unwrap();
        assert_eq!(kept.secret_hash, digest(&SHA256, &*token.secret).as_ref());
        assert!(kept.witness && kept.used.is_none() && kept.expires_at == 9);
        let (other, _) = fresh([3; 32], true, 9, "anna").unwrap();
        assert!(other.id != token.id && other.secret != token.secret);
    }

    #[test]
    fn a_fingerprint_is_32_bytes_in_hex() {
        assert_eq!(pin_of(&"0f".repeat(32)), Some([15; 32]));
        assert!(pin_of("").is_none() && pin_of("0f0f").is_none() && pin_of(&"zz".repeat(32)).is_none());
    }

    #[test]
    fn the_join_port_is_known_from_the_node_port() {
        assert_eq!(join_address("10.0.0.1:7440").as_deref(), Some("10.0.0.1:7442"));
        assert_eq!(join_address("[fd00::1]:7440").as_deref(), Some("[fd00::1]:7442"));
        assert_eq!(join_address("a:65535"), None);
    }
}
