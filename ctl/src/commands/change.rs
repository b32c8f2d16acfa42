//! Asks for a change, a move or a drain, and tells what became of it.

use std::time::Duration;

use serde_json::json;
use tandem_proto::Problems;
use tandem_proto::admin::v1::change_reply::Outcome;
use tandem_proto::admin::v1::{DrainRequest, MoveVipRequest};
use tandem_proto::config::v1 as pb;

use super::plan;
use super::task::{Change, ending};
use crate::client::{Client, Error as ClientError};
use crate::output::{Doubt, Error, Told};

/// What goes with every change.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) expect_revision: Option<u64>,
    pub(super) actor: String,
    pub(super) request_id: String,
    pub(super) reason: String,
    pub(super) mode: Mode,
}

/// Whether a change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is.
    Make,
    /// What it would do is told.
    DryRun,
}

/// Makes a change: one request to the leader, or more until one is answered.
pub(super) async fn make(client: &Client, change: Change, terms: Terms) -> Result<Told, Error> {
    let command = pb::Command {
        request_id: terms.request_id,
        expect_revision: terms.expect_revision,
        actor: terms.actor,
        reason: terms.reason,
        rollback_to: change.rollback_to,
        restore: change.restore.map(|backup| *backup),
        edits: change.edits.into_iter().map(|edit| pb::Edit { edit: Some(edit) }).collect(),
        ..Default::default()
    };
    if terms.mode == Mode::DryRun {
        return plan::told(client.plan(&command).await?);
    }
    let doubt = |e: ClientError| Error::of(e, Doubt::Change(command.request_id.clone()));
    match client.change(&command).await.map_err(doubt)?.outcome {
        Some(Outcome::Done(done)) => Ok(Told {
            people: format!("revision {}: {}\n", done.revision, change.done),
            programs: json!({
                "revision": done.revision,
                "done": change.done,
                "notes": done.notes,
                "request_id": command.request_id,
            }),
            notes: done.notes,
        }),
        Some(Outcome::Refused(refused)) => {
            Err(Error::Refused { problems: refused.problems.into(), revision: Some(refused.revision) })
        }
        None => Err(Error::Refused {
            problems: Problems::one(
                "answer",
                "",
                "is of a kind this tandemctl does not know, so the change may have been made",
                "use the tandemctl of the node's version, then look at: tandemctl config show",
            ),
            revision: None,
        }),
    }
}

/// Hands virtual IPs over.
pub(super) async fn move_vip(client: &Client, request: MoveVipRequest) -> Result<Told, Error> {
    let reply = client.move_vip(&request).await.map_err(|e| Error::of(e, Doubt::Move))?;
    let what = if request.name.is_empty() { "virtual IPs".to_owned() } else { format!("virtual IP {}", request.name) };
    Ok(Told {
        people: format!("{what} moved from {} to {} in {} ms\n", reply.from, reply.to, reply.took_ms),
        programs: json!({"from": reply.from, "to": reply.to, "took_ms": reply.took_ms}),
        notes: Vec::new(),
    })
}

/// Takes a node out of service, or back.
pub(super) async fn drain(client: &Client, request: DrainRequest) -> Result<Told, Error> {
    let reply = client.drain(&request).await.map_err(|e| Error::of(e, Doubt::SeenBy("tandemctl status")))?;
    let DrainRequest { node, resume, within_ms } = request;
    let people = if resume {
        format!("{node} is in service again\n")
    } else {
        let ending = ending(within_ms.map(Duration::from_millis));
        format!("{node} draining: no new clients; {} sessions open{ending}; see: tandemctl status\n", reply.sessions)
    };
    let programs = json!({
        "node": node, "draining": !resume, "sessions": reply.sessions, "within_ms": within_ms, "notes": reply.notes,
    });
    Ok(Told { people, programs, notes: reply.notes })
}
