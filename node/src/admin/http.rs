//! For machines that watch this node: `/healthz`, `/readyz` and `/metrics` over plain HTTP.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::service::Admin;
use super::watched;
use crate::metrics;

/// How long to wait for descriptors or memory when an accept found none.
const BACK_OFF: std::time::Duration = std::time::Duration::from_millis(100);
const PLAIN: &str = "text/plain; charset=utf-8";

/// Answers until it is dropped. Must be called on the control runtime: a full data plane cannot delay an answer.
pub async fn serve(listener: TcpListener, admin: Admin) {
    loop {
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
            // Whether the asker waited for the answer is its own business.
            let _ =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await;
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
