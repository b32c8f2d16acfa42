//! `node`: who is a member, and who votes; listed and changed.

use serde_json::{Value, json};
use tandem_proto::admin::v1::set_member_request::Change;
use tandem_proto::admin::v1::{SetMemberRequest, StatusReply};

use super::status::asked;
use super::view::{node_json, state};
use super::words::{node_name, or_dash, role};
use crate::client::Client;
use crate::output::{Doubt, Error, Reader, Told, table};

/// The members.
pub(super) async fn list(client: &Client, reader: Reader) -> Result<Told, Error> {
    let status = client.status(&asked(reader)).await?;
    let all: Vec<Value> = status.nodes.iter().map(|n| node_json(&status, n)).collect();
    Ok(Told {
        people: rows(&status),
        programs: json!({ "level": status.level.max(1), "nodes": all }),
        notes: Vec::new(),
    })
}

fn rows(status: &StatusReply) -> String {
    let rows = status.nodes.iter().map(|node| {
        let member = node.member.clone().unwrap_or_default();
        let votes = match (node.voter, member.to_vote) {
            (true, _) => "yes",
            (false, true) => "once caught up",
            (false, false) => "no",
        };
        let version = node.report.as_ref().map(|r| r.version.clone()).unwrap_or_default();
        vec![
            node_name(node),
            member.id.to_string(),
            member.address,
            role(node).to_owned(),
            votes.to_owned(),
            state(status, node),
            or_dash(version),
        ]
    });
    table(&["NODE", "NUMBER", "ADDRESS", "ROLE", "VOTES", "STATE", "VERSION"], rows.collect())
}

/// Makes one change of members.
pub(super) async fn set(client: &Client, change: Change) -> Result<Told, Error> {
    let request = SetMemberRequest { change: Some(change.clone()) };
    let reply = client.set_member(&request).await.map_err(|e| Error::of(e, Doubt::SeenBy("tandemctl node ls")))?;
    let (name, did) = match &change {
        Change::Add(new) => (&new.name, format!("is in, as node {}", reply.node)),
        Change::Replace(new) => (&new.name, format!("is in anew, as node {}", reply.node)),
        Change::Remove(name) => (name, format!("(node {}) is removed for good", reply.node)),
        Change::Promote(name) => (name, "votes".to_owned()),
        Change::Demote(name) => (name, "is a learner: it votes no more".to_owned()),
    };
    let voters = if reply.voters == 1 { "1 voter".to_owned() } else { format!("{} voters", reply.voters) };
    Ok(Told {
        people: format!("{name} {did}; {voters} now\n"),
        programs: json!({
            "name": name, "node": reply.node, "done": reply.done, "voters": reply.voters, "notes": reply.notes,
        }),
        notes: reply.notes,
    })
}
