//! Keeps the papers of this node fresh, without anybody's hand: renewed at two thirds of their life, and when an authority
//! comes or goes. What is due is decided by a pure function; a loop does it.
//!
//! ```text
//!  ca rotate: one authority ──add──▶ both believed, the old one signs ──every node believes both──▶ the new one signs
//!             ──every node is certified by it; `ca retire`──▶ one authority
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message;
use tandem_proto::admin::v1 as pb;
use tandem_proto::config::v1::Command;
use tandem_proto::papers::{Access, Identity, Papers, Who};
use tandem_proto::trust::v1::{RenewReply, RenewRequest, change::Change};
use tonic::Status;

use super::caller::{Caller, Role as CallerRole};
use super::service::{Admin, Rooms};
use super::signing::{self, Desk};
use super::stamp::{unix_ms, unix_s};
use crate::control::state::Outcome;
use crate::control::trust::Trust;
use crate::control::{Member, NodeId, Role};
use crate::trust;

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// What papers need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// Other authorities are believed, or the nodes are elsewhere: the certificate stays.
    Rewrite,
    /// A new key and a new certificate.
    Renew,
}

/// What these papers need at `now_s`, in a cluster that believes `believed` (fingerprints), signs with `signer`, and has
/// nodes at `nodes`.
fn due(papers: &Papers, believed: &BTreeSet<String>, signer: &str, nodes: &[String], now_s: i64) -> Due {
    let third = (papers.not_after - papers.not_before) / 3;
    if now_s >= papers.not_after - third || papers.signer().as_deref() != Some(signer) {
        return Due::Renew;
    }
    let known: BTreeSet<String> = papers.believes().into_iter().collect();
    if known != *believed || papers.nodes != nodes { Due::Rewrite } else { Due::Nothing }
}

/// Attends to the papers until it is dropped.
pub async fn attend(admin: Admin) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = String::new();
    loop {
        tick.tick().await;
        let (Ok(rooms), Some(desk)) = (admin.rooms(), admin.desk()) else { continue };
        let done = async {
            admin.founded(rooms, desk).await?;
            admin.renewed(rooms, desk).await?;
            admin.admin_renewed(rooms, desk).await?;
            admin.turned(rooms).await
        };
        match done.await {
            Ok(()) => last.clear(),
            Err(why) => {
                if last != why {
                    tracing::warn!("certificates: {why}; trying again");
                    last = why;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

impl Admin {
    /// The first leader of a new cluster gives it the authority that `tandemd init` made.
    async fn founded(&self, rooms: &Rooms, desk: &Desk) -> Result<(), String> {
        let Ok(bytes) = tokio::fs::read(&desk.founding).await else { return Ok(()) };
        if !rooms.control.now().trust.signer.is_empty() {
            let gone = tokio::fs::remove_file(&desk.founding).await;
            return gone.map_err(|e| format!("{}: {e}", desk.founding.display()));
        }
        if self.as_leader().is_err() {
            return Ok(());
        }
        let command = Command::decode(bytes.as_slice()).map_err(|e| format!("{}: {e}", desk.founding.display()))?;
        match rooms.control.propose(Command { at_unix_ms: unix_ms(), ..command }).await {
            Ok(Outcome::Refused { problems, .. }) => Err(format!("the cluster cannot be founded: {problems}")),
            Ok(_) => {
                tracing::info!("the cluster has its authority: other nodes can join");
                Ok(())
            }
            Err(e) => Err(e.to_string()),
        }
    }

    async fn renewed(&self, rooms: &Rooms, desk: &Desk) -> Result<(), String> {
        let trust = rooms.control.now().trust.clone();
        if trust.signer.is_empty() {
            return Ok(());
        }
        let nodes = nodes(rooms);
        let papers = desk.papers.borrow().clone();
        let identity = called(&papers.identity, rooms.control.identity().node, self.who().secrets.is_some());
        let due = if papers.identity == identity {
            due(&papers, &known(&trust), &trust.signer, &nodes, unix_s())
        } else {
            Due::Renew
        };
        match due {
            Due::Nothing => Ok(()),
            Due::Rewrite => {
                let text = tokio::fs::read_to_string(&desk.file).await;
                let text = text.map_err(|e| format!("{}: {e}", desk.file.display()))?;
                desk.keep(rewritten(&text, &signing::believed(&trust), &nodes)?).await
            }
            Due::Renew => {
                let (key, request) = trust::request().map_err(|e| e.to_string())?;
                let certificate = self.certified(rooms, desk, &trust, &identity, request).await?;
                desk.keep(Papers::text(&key, &certificate, &signing::believed(&trust), &nodes)).await?;
                tracing::info!(until_s = desk.papers.borrow().not_after, "this node's certificate is renewed");
                Ok(())
            }
        }
    }

    /// A proxy signs for itself, for it could sign for anybody; a witness asks a proxy.
    async fn certified(
        &self,
        rooms: &Rooms,
        desk: &Desk,
        trust: &Trust,
        identity: &Identity,
        request: Vec<u8>,
    ) -> Result<String, String> {
        if let Some(secrets) = self.who().secrets.as_deref() {
            return signing::sign(trust, Some(secrets), &request, identity, desk.life, unix_s());
        }
        let here = rooms.control.here();
        let mut last = "no proxy is there to ask for a certificate".to_owned();
        for proxy in here.members.values().filter(|m| m.role == Role::Proxy) {
            let ask = RenewRequest { request: request.clone() };
            let answers = self.peers().ask(std::slice::from_ref(proxy), |mut c| {
                let ask = ask.clone();
                async move { c.renew(ask).await }
            });
            match answers.await.pop() {
                Some(Ok(reply)) => return Ok(reply.certificate_pem),
                Some(Err(e)) => last = format!("{} does not sign: {}", proxy.name, e.message()),
                None => {}
            }
        }
        Err(last)
    }

    /// Signs for a node what it is already.
    pub(super) fn renew_for(&self, caller: Option<&Caller>, ask: &RenewRequest) -> Result<RenewReply, Status> {
        let rooms = self.rooms()?;
        let who = match caller.map(|c| c.role) {
            Some(CallerRole::Proxy(id)) => Who::Node(id),
            Some(CallerRole::Witness(id)) => Who::Witness(id),
            _ => return Err(Status::permission_denied("only nodes have their certificates renewed so")),
        };
        let desk = self.desk().ok_or_else(|| Status::failed_precondition("this cluster has no certificates"))?;
        let identity = Identity { cluster: desk.papers.borrow().identity.cluster.clone(), who };
        let trust = rooms.control.now().trust.clone();
        let signed = signing::sign(&trust, self.who().secrets.as_deref(), &ask.request, &identity, desk.life, unix_s());
        signed.map(|certificate_pem| RenewReply { certificate_pem }).map_err(Status::failed_precondition)
    }

    /// Whoever is root on a proxy could sign for itself: its papers lie ready.
    async fn admin_renewed(&self, rooms: &Rooms, desk: &Desk) -> Result<(), String> {
        let trust = rooms.control.now().trust.clone();
        let Some(secrets) = self.who().secrets.as_deref().filter(|_| !trust.signer.is_empty()) else { return Ok(()) };
        let nodes = nodes(rooms);
        let text = tokio::fs::read_to_string(&desk.admin_file).await;
        let fresh = text.ok().and_then(|text| Papers::parse(&text).ok());
        if fresh.is_some_and(|p| due(&p, &known(&trust), &trust.signer, &nodes, unix_s()) == Due::Nothing) {
            return Ok(());
        }
        let who = Who::User { name: format!("local-{}", self.who().name), access: Access::Admin };
        let identity = Identity { cluster: desk.papers.borrow().identity.cluster.clone(), who };
        let (key, request) = trust::request().map_err(|e| e.to_string())?;
        let certificate = signing::sign(&trust, Some(secrets), &request, &identity, desk.life, unix_s())?;
        let text = Papers::text(&key, &certificate, &signing::believed(&trust), &nodes);
        signing::put(&desk.admin_file, text).await
    }

    /// A new authority signs as soon as every node believes it.
    async fn turned(&self, rooms: &Rooms) -> Result<(), String> {
        let trust = rooms.control.now().trust.clone();
        let Some(newest) = trust.authorities.last().filter(|a| a.fingerprint != trust.signer) else { return Ok(()) };
        if self.as_leader().is_err() {
            return Ok(());
        }
        let nodes = self.gather(rooms, &pb::ReportRequest::brief()).await;
        if !nodes.iter().all(|n| believes(n, &newest.fingerprint)) {
            return Ok(());
        }
        let change = Change::SignWith(newest.fingerprint.clone());
        self.trust(rooms, change, "rotation".to_owned()).await.map_err(|e| e.message().to_owned())?;
        tracing::info!(fingerprint = %newest.fingerprint, "every node believes the new authority: it signs from now on");
        Ok(())
    }
}

/// What this node's certificate must call it. A proxy that made a cluster of its own got a new number by that, and the others
/// take it for nobody under the old one.
fn called(now: &Identity, node: NodeId, signs: bool) -> Identity {
    match now.who {
        // A store that cannot be read tells no number.
        Who::Node(_) if signs && node > 0 => Identity { who: Who::Node(node), ..now.clone() },
        _ => now.clone(),
    }
}

fn believes(node: &pb::NodeStatus, fingerprint: &str) -> bool {
    let papers = node.report.as_ref().and_then(|r| r.papers.as_ref());
    papers.is_some_and(|p| p.believes.iter().any(|f| f == fingerprint))
}

fn known(trust: &Trust) -> BTreeSet<String> {
    trust.authorities.iter().map(|a| a.fingerprint.clone()).collect()
}

fn nodes(rooms: &Rooms) -> Vec<String> {
    let mut all: Vec<Member> = rooms.control.here().members.values().cloned().collect();
    // A witness last: it has the config, and nothing else to tell.
    all.sort_by_key(|m| (m.role == Role::Witness, m.id));
    all.into_iter().map(|m| m.address).collect()
}

/// The same key and certificate, with these authorities.
fn rewritten(text: &str, believed: &[String], nodes: &[String]) -> Result<String, String> {
    let blocks = pem::parse_many(text).map_err(|e| e.to_string())?;
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let block = |is_key: bool| {
        let found = blocks.iter().find(|b| (b.tag() == "CERTIFICATE") != is_key);
        found.map(|b| pem::encode_config(b, config)).ok_or("the file is not whole")
    };
    Ok(Papers::text(&block(true)?, &block(false)?, believed, nodes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::trust::{Signer, new_authority, request};

    const NOW: i64 = 1_800_000_000;

    fn text(life: Duration, nodes: &[String]) -> (String, String) {
        let (authority, key) = new_authority("chat", NOW).unwrap();
        let (mine, asked) = request().unwrap();
        let signer = Signer::new(&authority, &key).unwrap();
        let signed = signer.sign(&asked, &Identity::new(&[1], Who::Node(1)), NOW, life).unwrap();
        (Papers::text(&mine, &signed, std::slice::from_ref(&authority), nodes), authority)
    }

    #[test]
    fn papers_are_renewed_at_two_thirds_of_their_life_and_when_another_signs() {
        let day = Duration::from_secs(24 * 3600);
        let (text, authority) = text(90 * day, &[]);
        let papers = Papers::parse(&text).unwrap();
        let signer = signing::fingerprint_of(&authority).unwrap();
        let believed = BTreeSet::from([signer.clone()]);
        let at = |days: i64| due(&papers, &believed, &signer, &[], NOW + days * 24 * 3600);
        assert_eq!(
            [at(0), at(59), at(61), at(89), at(91)],
            [Due::Nothing, Due::Nothing, Due::Renew, Due::Renew, Due::Renew]
        );
        assert_eq!(due(&papers, &believed, "another", &[], NOW), Due::Renew);
    }

    #[test]
    fn a_node_is_called_by_the_number_it_has_now() {
        let one = Identity::new(&[1], Who::Node(1));
        assert_eq!(called(&one, 1, true), one);
        assert_eq!(called(&one, 4, true), Identity::new(&[1], Who::Node(4)));
        assert_eq!(called(&one, 0, true), one, "its store is damaged");
        let witness = Identity::new(&[1], Who::Witness(3));
        assert_eq!(called(&witness, 4, false), witness, "it cannot sign for itself");
    }

    #[test]
    fn a_new_authority_is_believed_without_a_new_certificate() {
        let (old, authority) = text(Duration::from_secs(1_000_000), &["10.0.0.1:7440".into()]);
        let (other, _) = new_authority("chat", NOW).unwrap();
        let both = [authority.clone(), other.clone()];
        let signer = signing::fingerprint_of(&authority).unwrap();
        let believed: BTreeSet<String> = both.iter().map(|a| signing::fingerprint_of(a).unwrap()).collect();
        let nodes = ["10.0.0.1:7440".to_owned(), "10.0.0.2:7440".to_owned()];
        assert_eq!(due(&Papers::parse(&old).unwrap(), &believed, &signer, &nodes, NOW), Due::Rewrite);
        let new = Papers::parse(&rewritten(&old, &both, &nodes).unwrap()).unwrap();
        assert_eq!(due(&new, &believed, &signer, &nodes, NOW), Due::Nothing);
        assert!(new.server().is_ok() && new.nodes == nodes);
    }
}
