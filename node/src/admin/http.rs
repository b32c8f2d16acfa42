//! For machines that watch this node: `/healthz`, `/readyz` and `/metrics` over plain HTTP.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::service::Admin;
use super::watched;
use crate::metrics;

/// How long to wait for descriptors or memory when an accept found none.
const BACK_OFF: Duration = Duration::from_millis(100);
const PLAIN: &str = "text/plain; charset=utf-8";

/// The most connections at once; who comes then waits until one ends. Watchers need a few, and the descriptors are clients'.
const MOST: usize = 64;
/// A connection without a whole request is ended after this time, so that those who say nothing do not keep others out.
const SILENCE: Duration = Duration::from_secs(10);
/// And every other one after its answer under way, when it has lasted so long; who asks on connects anew.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// An answer nobody reads ends then.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Answers until it is dropped. Must be called on the control runtime: a full data plane cannot delay an answer.
pub async fn serve(listener: TcpListener, admin: Admin) {
    let seats = Arc::new(Semaphore::new(MOST));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        let admin = admin.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let response = answer(&admin, request.method(), request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move {
            let _seat = seat;
            let mut builder = http1::Builder::new();
            let builder = builder.timer(TokioTimer::new()).header_read_timeout(SILENCE);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
            // Whether the asker waits for the answer is its own business.
            if tokio::time::timeout(LONGEST, connection.as_mut()).await.is_err() {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(LAST_WORD, connection).await;
            }
        });
    }
}

fn answer(admin: &Admin, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned());
    }
    match path {
        "/healthz" => text(StatusCode::OK, PLAIN, "alive\n".to_owned()),
        "/readyz" => match watched::obstacles(admin) {
            none if none.is_empty() => text(StatusCode::OK, PLAIN, "ready\n".to_owned()),
            some => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, some.join("\n") + "\n"),
        },
        "/metrics" => {
            let admin = admin.clone();
            match metrics::page(move |page| watched::write(&admin, page)) {
                Ok(page) => text(StatusCode::OK, metrics::MEDIA_TYPE, page),
                Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("no page: {e}\n")),
            }
        }
        _ => text(StatusCode::NOT_FOUND, PLAIN, "here are /healthz, /readyz and /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, media: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
