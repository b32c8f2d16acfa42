//! An HTTP check: a request, its status, and a text in the body where one is expected.

use std::future::pending;

use ::http::header::{CONNECTION, HeaderValue};
use ::http::request::Builder;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use memchr::memmem;

use super::super::stream::Stream;
use super::error::Error;
use super::look::Patience;
use crate::config::model::Check;

/// How much of a body is looked through.
const MOST: usize = 64 * 1024;

/// Asks, and judges the answer.
///
/// # Errors
/// What is wrong with the answer, or that there is none.
pub(super) async fn ask(stream: Stream, request: Builder, check: &Check, patience: Patience) -> Result<(), Error> {
    let request = request.method(check.method.word()).header(CONNECTION, HeaderValue::from_static("close"));
    let request = request.body(Empty::<Bytes>::new()).expect("the model lets paths through that can be asked for");
    let mut client = http1::Builder::new();
    let (mut sender, talk) = client.max_buf_size(MOST).handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let answer = patience.wait("answer", sender.send_request(request)).await?;
        if !check.statuses.contain(answer.status().as_u16()) {
            return Err(Error::Status(answer.status()));
        }
        match &check.body {
            Some(text) => patience.wait("end of the answer", find(answer.into_body(), text)).await,
            None => Ok(()),
        }
    };
    // The connection lives as long as the look; what breaks it is told to the exchange.
    let talk = async {
        drop(talk.await);
        pending().await
    };
    tokio::select! {
        found = exchange => found,
        never = talk => never,
    }
}

/// Looks for `text` until it is there.
async fn find(mut body: Incoming, text: &str) -> Result<(), Error> {
    let mut seen = Vec::new();
    while seen.len() < MOST
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame?.into_data() else { continue };
        // It may have begun at the end of the last piece.
        let from = seen.len().saturating_sub(text.len());
        seen.extend_from_slice(&data[..data.len().min(MOST - seen.len())]);
        if memmem::find(&seen[from..], text.as_bytes()).is_some() {
            return Ok(());
        }
    }
    Err(Error::Body(text.to_owned()))
}
