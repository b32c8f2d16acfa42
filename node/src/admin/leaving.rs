//! Leaving: a node gives what it holds to the others and takes no new clients, until it ends or is told to come back.
//!
//! ```text
//!  serving ── drain ──► hands over ──► refuses new clients, hands over again should it be elected ── the end, or resume
//!     └────── SIGTERM ─► hands over ──► ends
//! ```
//! Not ready comes first, and refusing last: whoever comes by an address that moves meanwhile is still served.

use std::time::Duration;

use tandem_proto::admin::v1 as pb;
use tokio::sync::watch;
use tonic::Status;

use super::report::leads;
use super::service::{Admin, Rooms};
use super::status::is_proxy;
use crate::config::model::State;
use crate::control::{Member, Role, Standing};

/// How soon a node that leaves looks again whether it was elected.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether a node leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Leaving {
    /// It serves.
    #[default]
    No,
    /// It shall serve nobody after this time, or after the last session has ended by itself.
    Draining { within: Option<Duration> },
    /// The process ends.
    Ending,
}

/// Waits until this node is no member any more.
async fn removed(standing: &mut watch::Receiver<Standing>) {
    if standing.wait_for(|s| s.removed).await.is_err() {
        // Consensus has ended for another reason, and says nothing any more.
        std::future::pending().await
    }
}

impl Admin {
    /// The polite end: not ready from now on; gives the addresses and the leadership away.
    pub async fn leave(&self) {
        self.leaving().send_replace(Leaving::Ending);
        self.hand_over().await;
    }

    /// Carries out what [`Admin::drain_here`] was told, until the end. To be called once, after [`Admin::open`].
    pub async fn attend(self) {
        let mut told = self.leaving().subscribe();
        let Ok(mut standing) = self.rooms().map(|rooms| rooms.control.standing()) else { return };
        loop {
            // One that was removed serves nobody new: what it has of the config grows old.
            if standing.borrow().removed {
                self.leaving().send_if_modified(|now| {
                    let serves = *now == Leaving::No;
                    if serves {
                        *now = Leaving::Draining { within: None };
                    }
                    serves
                });
            }
            let now = *told.borrow_and_update();
            if matches!(now, Leaving::Draining { .. }) {
                self.hand_over().await;
            }
            let proxy = self.rooms().ok().and_then(|rooms| Some(&rooms.plane.as_ref()?.proxy));
            match (now, proxy) {
                (Leaving::Ending, _) | (_, None) => return,
                (_, Some(_)) if told.has_changed().unwrap_or(true) => {}
                (Leaving::No, Some(proxy)) => proxy.drain(State::Active, None),
                (Leaving::Draining { within }, Some(proxy)) => proxy.drain(State::Draining, within),
            }
            let again = async {
                if now == Leaving::No { std::future::pending().await } else { tokio::time::sleep(AGAIN).await }
            };
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                () = again => {}
                () = removed(&mut standing), if now == Leaving::No => {}
            }
        }
    }

    /// Tells this node to drain, or to serve again.
    ///
    /// # Errors
    /// It has no data plane yet, or is about to end.
    pub(super) fn drain_here(&self, ask: &pb::DrainRequest) -> Result<pb::DrainReply, Status> {
        let plane = self.rooms()?.plane.as_ref();
        let plane = plane.ok_or_else(|| Status::invalid_argument("a witness has no clients; drain a proxy"))?;
        let wanted = match ask.resume {
            true => Leaving::No,
            false => Leaving::Draining { within: ask.within_ms.map(Duration::from_millis) },
        };
        let mut ending = false;
        self.leaving().send_if_modified(|now| {
            ending = *now == Leaving::Ending;
            !ending && std::mem::replace(now, wanted) != wanted
        });
        if ending {
            return Err(Status::invalid_argument("this node is about to end"));
        }
        let sessions = plane.proxy.report().sessions;
        match wanted {
            Leaving::No => tracing::info!("serving again"),
            _ => tracing::info!(sessions, within_ms = ask.within_ms, "draining: no new clients"),
        }
        Ok(pb::DrainReply { sessions, notes: Vec::new() })
    }

    /// The same for any node of the cluster.
    ///
    /// # Errors
    /// There is no such proxy, or it does not answer.
    pub(super) async fn drain_anywhere(&self, rooms: &Rooms, ask: pb::DrainRequest) -> Result<pb::DrainReply, Status> {
        let here = rooms.control.here();
        let proxies = || here.members.values().filter(|m| m.role == Role::Proxy);
        let Some(whom) = proxies().find(|m| m.name == ask.node) else {
            let known: Vec<&str> = proxies().map(|m| m.name.as_str()).collect();
            let why = format!("no proxy is called {:?}; known: {}", ask.node, known.join(", "));
            return Err(Status::invalid_argument(why));
        };
        let mut reply = if whom.id == here.me {
            self.drain_here(&ask)?
        } else {
            let one: [Member; 1] = [whom.clone()];
            let answers = self.peers().ask(&one, |mut peer| {
                let ask = ask.clone();
                async move { peer.drain_here(ask).await }
            });
            let away = |e: Status| Status::not_found(format!("{} cannot be told: {}", whom.name, e.message()));
            answers.await.pop().ok_or_else(|| Status::internal("nobody was asked"))?.map_err(away)?
        };
        if !ask.resume {
            let serves = |n: &pb::NodeStatus| {
                let other = n.member.as_ref().is_some_and(|m| m.id != whom.id);
                other && is_proxy(n) && n.report.as_ref().is_some_and(pb::NodeReport::is_fit)
            };
            if !self.gather(rooms, &pb::ReportRequest::brief()).await.iter().any(serves) {
                let back = format!("tandemctl node resume {}", whom.name);
                reply.notes.push(format!("no other proxy takes clients: they are refused; take it back: {back}"));
            }
        }
        Ok(reply)
    }

    /// Gives the addresses and the leadership to another proxy, if this node has them and there is one.
    async fn hand_over(&self) {
        let Ok(rooms) = self.rooms() else { return };
        if !leads(&rooms.control, rooms.lease) {
            return;
        }
        for next in self.standbys(rooms).await {
            match self.move_to(rooms, &next).await {
                Ok(took) => return tracing::info!(to = %next.name, ?took, "handed over"),
                Err(e) => tracing::warn!(to = %next.name, "did not take over: {}", e.message()),
            }
        }
    }
}
