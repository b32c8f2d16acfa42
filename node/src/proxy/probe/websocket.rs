//! A WebSocket check: the handshake as for clients, a ping that must come back, and a text where one is expected to.

use ::http::HeaderMap;
use ::http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use ::http::request::Builder;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::super::heads::encode;
use super::super::stream::Stream;
use super::super::switch::{self, Heard};
use super::super::upgrade::verify;
use super::error::Error;
use super::look::Patience;
use crate::config::model::Check;

/// What a ping carries; its pong must carry the same (RFC 6455 section 5.5.3).
const PING: Bytes = Bytes::from_static(b"tandem");

/// Opens a session, has it answer, and ends it.
///
/// # Errors
/// What is wrong with the answers, or that there are none.
pub(super) async fn talk(stream: Stream, request: Builder, check: &Check, patience: Patience) -> Result<(), Error> {
    let key = generate_key();
    let mut request = request
        .header(CONNECTION, HeaderValue::from_static("Upgrade"))
        .header(UPGRADE, HeaderValue::from_static("websocket"))
        .header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        .header(SEC_WEBSOCKET_KEY, &key);
    if let Some(subprotocol) = &check.subprotocol {
        request = request.header(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    let (parts, ()) = request.body(()).expect("the model lets paths through that can be asked for").into_parts();
    let (headers, stream, early) =
        match patience.wait("answer", switch::ask(stream, &encode(&parts.method, &parts.uri, &parts.headers))).await? {
            Heard::Switched(headers, stream, early) => (headers, stream, early),
            Heard::Else(answer) => return Err(Error::Status(answer.status())),
        };
    verify(&headers, &derive_accept_key(key.as_bytes()))?;
    agreed(&headers, check.subprotocol.as_deref())?;

    let config = WebSocketConfig::default().read_buffer_size(4096);
    let opening = WebSocketStream::from_partially_read(stream, early.to_vec(), Role::Client, Some(config));
    let mut session = opening.await;
    let (ping, pong) = (Message::Ping(PING), Message::Pong(PING));
    patience.wait("pong", back(&mut session, ping, &pong, "pong")).await?;
    if let Some(text) = &check.echo {
        let text = Message::text(text);
        patience.wait("echo", back(&mut session, text.clone(), &text, "echo")).await?;
    }
    // For the sake of the backend's log: it has passed already.
    let _ = patience.wait("end", back(&mut session, Message::Close(None), &Message::Close(None), "end")).await;
    Ok(())
}

/// Sends, and reads over whatever else the backend has to say until it says what is expected.
async fn back(
    session: &mut WebSocketStream<Stream>,
    sent: Message,
    expected: &Message,
    what: &'static str,
) -> Result<(), Error> {
    session.send(sent).await?;
    while let Some(said) = session.next().await {
        match said? {
            said if said == *expected => return Ok(()),
            Message::Close(_) => break,
            _ => {}
        }
    }
    Err(Error::Closed(what))
}

/// Whether the backend took the one subprotocol it was offered.
fn agreed(headers: &HeaderMap, asked: Option<&str>) -> Result<(), Error> {
    let Some(asked) = asked else { return Ok(()) };
    match headers.get(SEC_WEBSOCKET_PROTOCOL) {
        Some(taken) if taken.as_bytes().trim_ascii() == asked.as_bytes() => Ok(()),
        _ => Err(Error::Subprotocol(asked.to_owned())),
    }
}
