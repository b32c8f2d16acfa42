//! `token` and `ca`: who may join, and who signs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tandem_proto::millis;
use tandem_proto::trust::v1 as pb;

use super::words::or_dash;
use crate::args::{Ca, Token, TokenRole};
use crate::client::Client;
use crate::output::{Doubt, Error, Told, table};

/// Where to look when nobody knows what became of a change.
const TOKENS: Doubt = Doubt::SeenBy("tandemctl token ls");
const AUTHORITIES: Doubt = Doubt::SeenBy("tandemctl ca ls");

pub(super) async fn token(client: &Client, command: Token, actor: String) -> Result<Told, Error> {
    match command {
        Token::Create { role, ttl } => create(client, role, ttl, actor).await,
        Token::Ls => list(client).await,
        Token::Rm { id } => {
            let request = pb::RemoveTokenRequest { id: id.clone(), actor };
            client.remove_token(&request).await.map_err(|e| Error::of(e, TOKENS))?;
            Ok(said(format!("token {id} removed: nobody joins with it\n"), json!({ "removed": id })))
        }
    }
}

async fn create(client: &Client, role: TokenRole, ttl: Duration, actor: String) -> Result<Told, Error> {
    let witness = role == TokenRole::Witness;
    let request = pb::CreateTokenRequest { witness, ttl_ms: millis(ttl), actor };
    let reply = client.create_token(&request).await.map_err(|e| Error::of(e, TOKENS))?;
    let host = reply.hosts.first().map(|h| h.strip_suffix(":7442").unwrap_or(h)).unwrap_or("HOST");
    let machine = if witness { "the witness" } else { "the new proxy" };
    let time = humantime::format_duration(ttl);
    let people = format!("On {machine}, once, within {time}:\n\n  tandemd join {host} --token {}\n\n", reply.token);
    let programs = json!({
        "token": reply.token, "role": word(witness), "expires_at_unix_ms": reply.expires_at, "hosts": reply.hosts,
    });
    Ok(said(people, programs))
}

async fn list(client: &Client) -> Result<Told, Error> {
    let (reply, now) = (client.tokens().await?, now_ms());
    let state = |t: &pb::Token| match &t.used {
        Some(used) => format!("used by node {}", used.node),
        None if t.expires_at <= now => "expired".to_owned(),
        None => {
            let left = Duration::from_secs((t.expires_at - now) / 1000);
            format!("{} left", humantime::format_duration(left))
        }
    };
    let row = |t: &pb::Token| vec![t.id.clone(), word(t.witness).to_owned(), state(t), or_dash(t.made_by.clone())];
    let one = |t: &pb::Token| {
        json!({
            "id": t.id, "role": word(t.witness), "expires_at_unix_ms": t.expires_at, "made_by": t.made_by,
            "used_by_node": t.used.as_ref().map(|u| u.node),
        })
    };
    let people = table(&["TOKEN", "ROLE", "STATE", "MADE BY"], reply.tokens.iter().map(row).collect());
    Ok(said(people, json!({ "tokens": reply.tokens.iter().map(one).collect::<Vec<Value>>() })))
}

pub(super) async fn ca(client: &Client, command: Ca, actor: String) -> Result<Told, Error> {
    match command {
        Ca::Ls => authorities(client).await,
        Ca::Rotate => {
            let reply = client.rotate(&pb::RotateRequest { actor }).await.map_err(|e| Error::of(e, AUTHORITIES))?;
            let people = format!(
                "authority {} is believed; it signs once every node believes it, within seconds. Then: tandemctl ca ls\n",
                short(&reply.fingerprint)
            );
            Ok(said(people, json!({ "fingerprint": reply.fingerprint })))
        }
        Ca::Retire => {
            let reply = client.retire(&pb::RetireRequest { actor }).await.map_err(|e| Error::of(e, AUTHORITIES))?;
            let gone: Vec<&str> = reply.fingerprints.iter().map(|f| short(f)).collect();
            let people = format!("authority {} is believed no longer\n", gone.join(", "));
            Ok(said(people, json!({ "fingerprints": reply.fingerprints })))
        }
    }
}

async fn authorities(client: &Client) -> Result<Told, Error> {
    let (reply, now) = (client.authorities().await?, now_ms() / 1000);
    let days = |until: i64| {
        let left = u64::try_from(until).unwrap_or(0).saturating_sub(now);
        if left == 0 { "expired".to_owned() } else { format!("{} days", left / 86_400) }
    };
    let row = |a: &pb::AuthorityReport| {
        let state = if a.signs { "signs" } else { "believed" };
        vec![short(&a.fingerprint).to_owned(), state.to_owned(), days(a.not_after_s), or_dash(a.nodes.join(", "))]
    };
    let one = |a: &pb::AuthorityReport| json!({ "fingerprint": a.fingerprint, "signs": a.signs, "not_after_s": a.not_after_s, "nodes": a.nodes });
    let people = table(&["AUTHORITY", "STATE", "EXPIRES", "CERTIFIES"], reply.authorities.iter().map(row).collect());
    Ok(said(people, json!({ "authorities": reply.authorities.iter().map(one).collect::<Vec<Value>>() })))
}

fn said(people: String, programs: Value) -> Told {
    Told { people, programs, notes: Vec::new() }
}

fn word(witness: bool) -> &'static str {
    if witness { "witness" } else { "proxy" }
}

/// Enough to tell two apart.
fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}

/// The wall clock: tokens and certificates are dated by it.
#[allow(clippy::disallowed_methods)]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
