//! The WebSocket handshake: checked (RFC 6455 section 4.2.1), taken to a backend, its answer checked too.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::backend::{Place, now};
use super::connection::Asked;
use super::error::{Error, Failure};
use super::frames::{Extension, Terms};
use super::headers;
use super::heads::encode;
use super::limits::{Limit, Permit, Taken};
use super::reply::{Reply, Source};
use super::screen::names_websocket;
use super::stream::Stream;
use super::switch::{self, Heard};
use super::table::Member;
use super::worker::Worker;

/// A backend that agreed to a session.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Stream,
    /// What it said right behind its 101.
    pub(super) early: Bytes,
    pub(super) place: Place,
    pub(super) leave: Leave,
    /// How its frames are looked after; `None`: they are bytes.
    pub(super) terms: Option<Terms>,
}

/// What a session holds of the limits, from its handshake to its end.
#[derive(Debug)]
pub(super) struct Leave {
    _permit: Permit,
    _seat: Taken,
    /// It is ended when nothing moves for so long; zero: it is not.
    pub(super) idle_ms: u32,
}

/// Takes a handshake to one of `asked.upstream`'s backends; the next one is tried while none has answered. What a backend
/// answers other than 101 is the answer.
///
/// # Errors
/// A handshake that is none, or no backend that answered.
pub(super) async fn open(
    worker: &Worker,
    asked: &Asked,
    request: Request<Incoming>,
) -> Result<(Response<Reply>, Option<Accepted>), Error> {
    let began = Instant::now();
    let (mut parts, _) = request.into_parts();
    let accept = check(&parts)?;
    let permit = worker.admit(asked)?;
    headers::for_backend(&mut parts.headers, &asked.forwarded_for, asked.taken.listener.scheme(), &asked.host);
    asked.taken.change_request(&mut parts.headers);
    upgraded(&mut parts.headers);
    parts.uri = asked.target.clone();
    let mut request = encode(&parts.method, &parts.uri, &parts.headers);
    // Those that are full are passed over as if they had been tried, but do not count as tries.
    let mut tried = asked.upstream.full();
    let mut full = tried.len();
    let mut failure = None;
    while tried.len() - full <= asked.upstream.timeouts.retries as usize {
        let Some((member, place)) = worker.place(&asked.upstream, asked.affinity, &tried) else { break };
        let address = member.backend.address;
        let Some(seat) = member.backend.seats.take(member.max_sessions) else {
            full += 1;
            tried.push(address);
            continue;
        };
        if let Some(host) = asked.taken.new_host(member) {
            parts.headers.insert(HOST, host);
            request = encode(&parts.method, &parts.uri, &parts.headers);
        }
        let tried_at = Instant::now();
        match attempt(worker, member, asked, &request, &accept).await {
            Ok(Answer::Yes(mut response, socket, early)) => {
                let agreed = response.headers().get_all(SEC_WEBSOCKET_EXTENSIONS).iter().map(HeaderValue::as_bytes);
                let extension = Extension::agreed(agreed);
                let terms = asked.taken.frames().map(|frames| Terms { frames, extension });
                asked.stick(response.headers_mut(), place.backend());
                place.backend().served();
                worker.tally.handshakes.observe(began.elapsed());
                let idle = asked.upstream.timeouts.idle;
                let idle_ms = idle.map_or(0, |idle| u32::try_from(idle.as_millis()).unwrap_or(u32::MAX));
                let leave = Leave { _permit: permit, _seat: seat, idle_ms };
                return Ok((response, Some(Accepted { socket, early, place, leave, terms })));
            }
            Ok(Answer::No(mut response)) => {
                asked.stick(response.headers_mut(), place.backend());
                place.backend().served();
                place.backend().requests_total.fetch_add(1, Relaxed);
                return Ok((response.map(|body| Reply::from_backend(Source::Driven(body, None), None, place)), None));
            }
            Err(failed @ Failure::Shortage(_)) => {
                // The next backend would be no nearer.
                failed.log(&asked.upstream.name, address);
                failure = Some(failed);
                break;
            }
            Err(failed) => {
                asked.upstream.let_down(place.backend(), tried_at.elapsed(), &failed, now());
                failed.log(&asked.upstream.name, address);
                failure = Some(failed);
                tried.push(address);
            }
        }
    }
    if failure.is_none() && full > 0 {
        return Err(Error::Limited(Limit::Backends.into()));
    }
    Err(asked.unanswered(failure))
}

/// What the answer must prove; the request is a handshake.
pub(super) fn check(parts: &Parts) -> Result<String, Error> {
    if parts.method != Method::GET || parts.version != Version::HTTP_11 {
        return Err(Error::Handshake("a WebSocket handshake is a GET of HTTP/1.1"));
    }
    if !has_token(&parts.headers, &CONNECTION, "upgrade") {
        return Err(Error::Handshake("Connection does not say Upgrade"));
    }
    let mut versions = parts.headers.get_all(SEC_WEBSOCKET_VERSION).iter();
    if versions.next().is_none_or(|v| v.as_bytes() != b"13") || versions.next().is_some() {
        return Err(Error::Version);
    }
    let mut keys = parts.headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => Ok(derive_accept_key(key.as_bytes())),
        (None, _) => Err(Error::Handshake("Sec-WebSocket-Key is missing")),
        _ => Err(Error::Handshake("Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

/// 16 bytes in base64 are 22 digits and two signs of padding.
fn is_key(key: &[u8]) -> bool {
    let digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    key.strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(digit))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut tokens = values.iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    tokens.any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

pub(super) fn upgraded(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

enum Answer {
    Yes(Response<Reply>, Stream, Bytes),
    No(Response<Incoming>),
}

async fn attempt(
    worker: &Worker,
    member: &Member,
    asked: &Asked,
    request: &[u8],
    accept: &str,
) -> Result<Answer, Failure> {
    let socket = worker.dial(member, asked).await?;
    let patience = asked.upstream.timeouts.upgrade;
    let sent = Instant::now();
    let said = tokio::time::timeout(patience, switch::ask(socket, request)).await;
    let said = said.unwrap_or(Err(Failure::Silent(patience)))?;
    member.backend.answered(sent.elapsed());
    match said {
        Heard::Switched(mut headers, socket, early) => {
            verify(&headers, accept)?;
            headers::strip_hop_by_hop(&mut headers);
            headers.remove(CONTENT_LENGTH);
            upgraded(&mut headers);
            let mut response = Response::new(Reply::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = headers;
            Ok(Answer::Yes(response, socket, early))
        }
        Heard::Else(mut response) => {
            headers::strip_hop_by_hop(response.headers_mut());
            Ok(Answer::No(response))
        }
    }
}

/// RFC 6455 section 4.1: what a client must find in the answer, found here first, so that a broken backend is passed over.
pub(super) fn verify(headers: &HeaderMap, accept: &str) -> Result<(), Failure> {
    if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|v| v.as_bytes().trim_ascii() != accept.as_bytes()) {
        return Err(Failure::Handshake("Sec-WebSocket-Accept does not match the key"));
    }
    if !headers.get_all(UPGRADE).iter().any(|v| names_websocket(v.as_bytes())) {
        return Err(Failure::Handshake("Upgrade does not say websocket"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn asked(change: impl FnOnce(&mut Request<()>)) -> Result<String, String> {
        let mut request = Request::builder()
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        change(&mut request);
        check(&request.into_parts().0).map_err(|e| format!("{} {e}", e.status().as_u16()))
    }

    #[test]
    fn the_handshake_of_the_rfc_is_one() {
        assert_eq!(asked(|_| ()), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let set = |name: &'static str, value: &'static str| {
            asked(|r| {
                r.headers_mut().insert(name, HeaderValue::from_static(value));
            })
            .unwrap_err()
        };
        assert!(asked(|r| *r.method_mut() = Method::POST).unwrap_err().starts_with("400"));
        assert!(asked(|r| *r.version_mut() = Version::HTTP_10).unwrap_err().starts_with("400"));
        assert!(set("connection", "keep-alive").starts_with("400"));
        assert!(set("sec-websocket-version", "8").starts_with("426"));
        assert!(set("sec-websocket-key", "c2hvcnQ=").starts_with("400"));
        assert!(set("sec-websocket-key", "dGhlIHNhbXBsZSBub25j!Q==").starts_with("400"));
        assert!(asked(|r| drop(r.headers_mut().remove("sec-websocket-key"))).unwrap_err().contains("missing"));
        assert!(asked(|r| drop(r.headers_mut().remove("sec-websocket-version"))).unwrap_err().starts_with("426"));
        let twice = asked(|r| {
            r.headers_mut().append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        });
        assert!(twice.unwrap_err().starts_with("400"));
    }
}
