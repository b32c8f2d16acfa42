//! What a client sends over HTTP/1: whatever the screen lets through, another reader splits at the same places, and a
//! handshake that is taken leaves for the backend as one head, no more.

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Uri, Version};

use super::engine;
use crate::proxy::heads::encode;
use crate::proxy::screen::{MAX_FIELDS, Scanner, Stage, names_websocket};
use crate::proxy::{headers, upgrade};

const WORDS: [&str; 36] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ": ",
    ",",
    ";x=y",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "\r\n ",
    "\u{b}",
    "GET / HTTP/1.1\r\n",
    "POST /x HTTP/1.1\r\n",
    "HTTP/1.0",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length:5\r\n",
    "Content-Length: +5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tchunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Upgrade: websocket\r\n",
    "upgrade: h2c, WebSocket\r\n",
    "Connection: Upgrade\r\n",
    "Connection: close, host\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "X-Forwarded-For: b\r\n",
    "Expect: 100-continue\r\n",
    "ffffffffffffffff",
    "\u{e4}",
];

#[test]
fn upgrade() {
    engine::run("upgrade", &WORDS, target);
}

/// What the screen made of it: where it stands and after how many heads, or why it refused, and what the handshake was.
fn target(input: &[u8]) -> String {
    let mut whole = Scanner::new(2048);
    let verdict = whole.scan(input);
    let end = verdict.map(|()| (whole.stage(), whole.heads())).map_err(|refused| refused.refusal);
    let mut bytewise = Scanner::new(2048);
    let each = input.chunks(1).try_for_each(|byte| bytewise.scan(byte));
    let each = each.map(|()| (bytewise.stage(), bytewise.heads())).map_err(|refused| refused.refusal);
    assert_eq!(end, each, "the pieces it comes in decide");
    let taken = verdict.map_or_else(|refused| &input[..refused.whole], |()| input);
    let mut again = Scanner::new(2048);
    again.scan(taken).expect("what came before a refusal was taken");
    let (stage, heads, last) = other_reader(taken);
    assert_eq!((again.stage(), again.heads()), (stage, heads), "another reader sees other messages");
    let shaken = last.filter(|_| stage == Stage::Opaque).map(leaves_as_one_head);
    format!("{end:?} {shaken:?}")
}

/// A plain reading of the same bytes by another parser: the stage at their end, complete heads, and the last of them.
fn other_reader(mut bytes: &[u8]) -> (Stage, u64, Option<Parts>) {
    let (mut heads, mut last) = (0, None);
    loop {
        let rest = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        if rest.is_empty() {
            return (if bytes.is_empty() { Stage::Idle } else { Stage::Head }, heads, last);
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS + 1];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(rest) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return (Stage::Head, heads, last),
            Err(error) => {
                // The screen waits for the end of a line, the parser does not.
                assert!(!complete(rest, b"\r\n\r\n"), "the parser does not take what the screen takes: {error}");
                return (Stage::Head, heads, last);
            }
        };
        heads += 1;
        let parts = parts(&request);
        bytes = &rest[length..];
        let all = |name: &str| parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
        assert!(lengths.len() + codings.len() <= 1, "two say how long the body is: {parts:?}");
        let websocket = all("upgrade").into_iter().any(names_websocket);
        if websocket {
            return (Stage::Opaque, heads, Some(parts));
        }
        let body = match (lengths.first(), codings.first()) {
            (Some(length), None) => {
                let length: u64 = std::str::from_utf8(length).unwrap().trim().parse().expect("a number");
                usize::try_from(length).ok().filter(|length| *length <= bytes.len())
            }
            (None, Some(_)) => chunks(bytes),
            _ => Some(0),
        };
        last = Some(parts);
        match body {
            Some(body) => bytes = &bytes[body..],
            None => return (Stage::Body, heads, last),
        }
    }
}

fn parts(request: &httparse::Request<'_, '_>) -> Parts {
    // A target that the screen takes and the type does not is answered 400 by the parser behind.
    let target = request.path.unwrap().parse::<Uri>().unwrap_or(Uri::from_static("/"));
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = request.method.unwrap();
    let built = Request::builder().method(method).uri(target).version(version).body(()).expect("a method is a token");
    let mut parts = built.into_parts().0;
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a token");
        parts.headers.append(name, HeaderValue::from_bytes(field.value).expect("no control bytes"));
    }
    parts
}

/// The bytes of a chunked body, its trailers included; `None`: they are not all there.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(read)) => read,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => {
                assert!(!complete(&bytes[at..], b"\r\n"), "the parser sees no chunk");
                return None;
            }
        };
        at += line;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok()?;
        if bytes.len() < at.checked_add(size)?.checked_add(2)? {
            return None;
        }
        assert_eq!(&bytes[at + size..at + size + 2], b"\r\n", "the chunk is longer than it says");
        at += size + 2;
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS + 1];
    match httparse::parse_headers(&bytes[at..], &mut fields) {
        Ok(httparse::Status::Complete((length, _))) => Some(at + length),
        Ok(httparse::Status::Partial) => None,
        Err(error) => {
            assert!(!complete(&bytes[at..], b"\r\n\r\n"), "the parser sees no trailers: {error}");
            None
        }
    }
}

/// Whether what ends so is all there.
fn complete(bytes: &[u8], end: &[u8]) -> bool {
    bytes.windows(end.len()).any(|window| window == end)
}

/// Whether a request for a WebSocket is a handshake; if so, what a backend would get of it is read once more.
fn leaves_as_one_head(mut parts: Parts) -> bool {
    if upgrade::check(&parts).is_err() {
        return false;
    }
    let host = parts.headers.get("host").cloned().unwrap_or(HeaderValue::from_static(""));
    headers::for_backend(&mut parts.headers, &headers::named([127, 0, 0, 1].into()), headers::Scheme::Http, &host);
    upgrade::upgraded(&mut parts.headers);
    let head = encode(&parts.method, &parts.uri, &parts.headers);
    let mut scanner = Scanner::new(1 << 20);
    let read = scanner.scan(&head);
    assert!(read.is_ok(), "the backend would be sent {:?}: {read:?}", String::from_utf8_lossy(&head));
    assert_eq!((scanner.stage(), scanner.heads()), (Stage::Opaque, 1));
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS + 20];
    let read = httparse::Request::new(&mut fields).parse(&head);
    assert_eq!(read, Ok(httparse::Status::Complete(head.len())), "bytes are left behind the head");
    true
}
