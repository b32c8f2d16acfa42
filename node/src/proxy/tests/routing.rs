//! What routes do, seen from both ends: who is asked, what a backend hears, what a client is told.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::rig::{Rig, Spy, echo_backend, free_address, until};
use crate::config::model::Config;

/// A data plane with the upstream `u` and these routes.
async fn rig(backend: SocketAddr, routes: &str) -> Rig {
    let text = format!(
        "listeners.main.address = \"{}\"\n[upstreams.u]\ncheck.kind = \"none\"\nbackends = [{{ address = \"{backend}\" }}]\n{routes}",
        free_address()
    );
    let said = tandem_proto::document::parse(&text).unwrap_or_else(|p| panic!("{p}"));
    Rig::of(Config::try_from(&said).unwrap(), |_| ()).await
}

/// A backend that tells what it hears, and agrees to every handshake of the key below.
async fn listening() -> (Spy, UnboundedReceiver<String>) {
    let (heads, heard) = unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let heads = heads.clone();
        async move {
            let head = until(&mut socket, "\r\n\r\n").await.to_ascii_lowercase();
            let answer = if head.contains("upgrade: websocket") {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nServer: secret\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: secret\r\nConnection: close\r\n\r\nok"
            };
            heads.send(head).unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    (spy, heard)
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.example:8080\r\nConnection: close\r\n{fields}\r\n")
}

fn handshake(target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: a.example:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

#[tokio::test]
async fn a_redirect_keeps_path_and_query_and_asks_no_backend() {
    let (spy, _heard) = listening().await;
    let rig = rig(spy.address, "[routes.r]\nredirect.to = \"https://{host}{path}{query}\"").await;
    let answer = rig.say(get("/a%20b/c?x=%0d%0aSet-Cookie:y&z", "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("\r\nlocation: https://a.example/a%20b/c?x=%0d%0aSet-Cookie:y&z\r\n"), "{answer}");
    let answer = rig.say(b"GET / HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("location"), "{answer}");
    assert_eq!(spy.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_a_path_leaves_no_way_to_another_host() {
    let (spy, _heard) = listening().await;
    let rig = rig(spy.address, "[routes.r]\nredirect = { to = \"{path}{query}\", status = 302 }").await;
    let answer = rig.say(get("//evil.example/x", "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 302 ") && answer.contains("\r\nlocation: /evil.example/x\r\n"), "{answer}");
}

#[tokio::test]
async fn a_fixed_answer_is_given_to_every_method() {
    let (spy, _heard) = listening().await;
    let fixed = "[routes.r]\nrespond = { status = 503, content_type = \"text/html\", body = \"<p>later\" }\n\
                 response_headers.set = [\"retry-after: 60\"]\n[routes.none]\npath = \"/none\"\nrespond.status = 204";
    let rig = rig(spy.address, fixed).await;
    let answer = rig.say(get("/", "").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\n<p>later"), "{answer}");
    assert!(
        answer.contains("\r\ncontent-type: text/html\r\n") && answer.contains("\r\nretry-after: 60\r\n"),
        "{answer}"
    );
    let head = rig.say(get("/", "").replacen("GET", "HEAD", 1).as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.ends_with("\r\n\r\n"), "{head}");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    assert!(rig.say(post.as_bytes()).await.starts_with("HTTP/1.1 503 "));
    let none = rig.say(get("/none", "").as_bytes()).await;
    assert!(none.starts_with("HTTP/1.1 204 ") && none.ends_with("\r\n\r\n"), "{none}");
    assert_eq!(spy.connections(), 0);
}

#[tokio::test]
async fn a_backend_is_asked_what_the_route_makes_of_it() {
    let (spy, mut heard) = listening().await;
    let rewriting = "[routes.r]\npath = \"/api\"\nupstream = \"u\"\nrewrite = { strip_prefix = \"/api\", host = \"{backend}\" }\n\
        request_headers = { remove = [\"x-gone\"], set = [\"x-who: {client_ip} {host} {path}{query} {listener}/{route}\"], add = [\"x-tag: a\"] }\n\
        [routes.named]\npath = \"/named\"\nupstream = \"u\"\nrewrite = { regex = \"/named/([0-9]+)\", to = \"/n?id={1}\", host = \"inner.example\" }";
    let rig = rig(spy.address, rewriting).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let fields = format!("X-Gone: 1\r\nX-Who: forged\r\nX-Tag: b\r\ntraceparent: {trace}\r\ntracestate: k=v,a=b\r\n");
    for ask in [get("/api/x?q=%0d%0ax-evil:1", &fields), handshake("/api/x?q=%0d%0ax-evil:1", &fields)] {
        // A session is ended by its backend here, so both read to the end.
        let answer = rig.say(ask.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let head = heard.recv().await.unwrap();
        assert!(head.starts_with("get /x?q=%0d%0ax-evil:1 http/1.1\r\n"), "{head}");
        for field in [
            format!("host: {}", spy.address),
            "x-forwarded-host: a.example:8080".to_owned(),
            "x-who: 127.0.0.1 a.example /api/x?q=%0d%0ax-evil:1 main/r".to_owned(),
            "x-tag: b".to_owned(),
            "x-tag: a".to_owned(),
            format!("traceparent: {trace}"),
            "tracestate: k=v,a=b".to_owned(),
        ] {
            assert_eq!(head.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field} in {head}");
        }
        assert!(!head.contains("x-gone") && !head.contains("forged") && !head.contains("\r\nx-evil"), "{head}");
        assert_eq!(head.matches("\r\nhost:").count(), 1, "{head}");
    }
    rig.say(get("/named/7?x=1", "").as_bytes()).await;
    let head = heard.recv().await.unwrap();
    assert!(head.starts_with("get /n?id=7&x=1 http/1.1\r\n") && head.contains("\r\nhost: inner.example\r\n"), "{head}");
}

#[tokio::test]
async fn every_answer_of_a_route_has_its_header_fields() {
    let (spy, _heard) = listening().await;
    let marked = "[routes.r]\nupstream = \"u\"\norigins = [\"https://good.example\"]\n\
        response_headers = { remove = [\"server\"], set = [\"x-route: {route}\"] }\n\
        [upstreams.empty]\n[routes.empty]\npath = \"/empty\"\nupstream = \"empty\"\nresponse_headers.set = [\"x-route: {route}\"]";
    let rig = rig(spy.address, marked).await;
    for (ask, status, route) in [
        (get("/", ""), 200, "r"),
        (handshake("/", "Origin: https://good.example\r\n"), 101, "r"),
        (handshake("/", "Origin: https://evil.example\r\n"), 403, "r"),
        (get("/empty", ""), 503, "empty"),
    ] {
        let answer = rig.say(ask.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("\r\nx-route: {route}\r\n")) && !answer.contains("secret"), "{answer}");
    }
}

#[tokio::test]
async fn a_foreign_page_cannot_open_a_websocket_with_the_users_cookies() {
    let (spy, mut heard) = listening().await;
    let guarded = "[routes.r]\nupstream = \"u\"\norigins = [\"https://*.good.example\", \"same-host\"]\n\
        [routes.strict]\npath = \"/strict\"\nupstream = \"u\"\norigins = [\"same-host\"]\norigin_required = true";
    let rig = rig(spy.address, guarded).await;
    for (target, origin) in [
        ("/", "Origin: https://evil.example\r\n"),
        ("/", "Origin: https://good.example.evil.example\r\n"),
        ("/", "Origin: null\r\n"),
        ("/", "Origin: http://a.example\r\n"),
        ("/", "Origin: https://x.good.example\r\nOrigin: https://evil.example\r\n"),
        ("/strict", ""),
    ] {
        let answer = rig.say(handshake(target, &format!("Cookie: session=1\r\n{origin}")).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{origin}: {answer}");
        assert!(answer.contains("tandemctl route set ") && answer.contains("connection: close\r\n"), "{answer}");
    }
    assert_eq!(spy.connections(), 0, "no backend saw the user's cookies");
    for origin in ["Origin: https://x.good.example\r\n", "Origin: http://a.example:8080\r\n", ""] {
        let answer = rig.say(handshake("/", origin).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{origin}: {answer}");
        heard.recv().await.unwrap();
    }
    let plain = rig.say(get("/", "Origin: https://evil.example\r\n").as_bytes()).await;
    assert!(plain.starts_with("HTTP/1.1 200 "), "a plain request is for CORS to judge: {plain}");
}

#[tokio::test]
async fn handshakes_and_plain_requests_of_one_path_go_their_own_ways() {
    let backend = echo_backend("sockets").await;
    let split = "[routes.sockets]\nwebsocket = \"only\"\nupstream = \"u\"\n\
        [routes.pages]\nheaders = [\"x-v ~ [0-9]+\"]\nquery = [\"room=a b\"]\nrespond = { status = 200, body = \"pages\" }";
    let rig = rig(backend, split).await;
    let (_session, who) = rig.session().await;
    assert_eq!(who, "sockets");
    assert!(rig.say(get("/?room=a+b", "X-V: 12\r\n").as_bytes()).await.ends_with("pages"));
    assert!(rig.say(get("/?room=a+b", "X-V: 1x\r\n").as_bytes()).await.starts_with("HTTP/1.1 404 "));
    assert!(rig.say(get("/?room=ab", "X-V: 12\r\n").as_bytes()).await.starts_with("HTTP/1.1 404 "));
}
