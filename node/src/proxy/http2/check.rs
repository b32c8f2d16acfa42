//! Turns a request of HTTP/2 into the one of HTTP/1.1 that means the same, or refuses it. Pure.
//!
//! A field that is data here can be framing behind us, and what a lenient reader repairs the next one reads otherwise; so
//! what RFC 9113 section 8 calls malformed is refused before it is written anew, also where the parser already does.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, Version};

use crate::proxy::screen::{MAX_FIELDS, Refusal, decimal, is_host};

/// Fields that speak of a connection, which HTTP/2 does not have (RFC 9113 section 8.2.2).
const OF_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Makes `parts` a request of HTTP/1.1; one with `protocol` (RFC 8441 section 4) becomes the WebSocket handshake that it
/// stands for, with the key that `key` makes: 16 bytes in base64.
///
/// # Errors
/// What is wrong with it. Then `parts` must not be used.
pub(super) fn translate(
    parts: &mut Parts,
    protocol: Option<&str>,
    key: impl FnOnce() -> String,
) -> Result<(), Refusal> {
    target(parts)?;
    fields(&parts.headers)?;
    parts.headers.insert(HOST, host(parts)?);
    join_cookies(&mut parts.headers);
    match (&parts.method, protocol) {
        (&Method::CONNECT, Some("websocket")) => handshake(parts, key()),
        (&Method::CONNECT, Some(_)) => {
            Err(Refusal::Malformed("websocket is the only protocol that CONNECT opens here"))
        }
        (&Method::CONNECT, None) => Err(Refusal::Malformed("CONNECT is not served here")),
        (_, Some(_)) => Err(Refusal::Malformed(":protocol stands without CONNECT")),
        (_, None) => Ok(()),
    }
}

/// The handshake of RFC 6455 section 4.1 that an extended CONNECT stands for.
fn handshake(parts: &mut Parts, key: String) -> Result<(), Refusal> {
    if parts.headers.remove(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0") {
        return Err(Refusal::Malformed("a WebSocket request has no body"));
    }
    let key = HeaderValue::from_maybe_shared(bytes::Bytes::from(key));
    let key = key.map_err(|_| Refusal::Malformed("no key could be made"))?;
    parts.method = Method::GET;
    parts.version = Version::HTTP_11;
    parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.insert(SEC_WEBSOCKET_KEY, key);
    Ok(())
}

fn target(parts: &Parts) -> Result<(), Refusal> {
    if parts.uri.scheme_str().is_some_and(|s| !s.eq_ignore_ascii_case("http") && !s.eq_ignore_ascii_case("https")) {
        return Err(Refusal::Malformed(":scheme is neither http nor https"));
    }
    let path = parts.uri.path_and_query().map_or("", |p| p.as_str());
    let known = path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS);
    // A plain CONNECT has none; it is refused for what it is.
    let known = known || (path.is_empty() && parts.method == Method::CONNECT);
    if !known || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(Refusal::Malformed("the target is no path"));
    }
    Ok(())
}

/// What `:authority` says, or `Host` where there is none; both must agree (RFC 9113 section 8.3.1).
fn host(parts: &Parts) -> Result<HeaderValue, Refusal> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::Malformed("Host is there twice"));
    }
    let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
    let host = match (authority, host.map(HeaderValue::as_bytes)) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(Refusal::Malformed(":authority and Host are not the same"));
        }
        (Some(named), _) | (None, Some(named)) => named,
        (None, None) => return Err(Refusal::Malformed(":authority is missing")),
    };
    if !is_host(host) || host.is_empty() {
        return Err(Refusal::Malformed(":authority is no host"));
    }
    HeaderValue::from_bytes(host).map_err(|_| Refusal::Malformed(":authority is no host"))
}

fn fields(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.len() > MAX_FIELDS {
        return Err(Refusal::TooManyFields);
    }
    for (name, value) in headers {
        field(name, value.as_bytes())?;
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if lengths.next().is_some_and(|length| decimal(length.as_bytes()).is_none()) {
        return Err(Refusal::Malformed("Content-Length is no number"));
    }
    if lengths.next().is_some() {
        return Err(Refusal::Malformed("Content-Length is there twice"));
    }
    Ok(())
}

fn field(name: &HeaderName, value: &[u8]) -> Result<(), Refusal> {
    if OF_CONNECTION.contains(name) {
        return Err(Refusal::Malformed("a field speaks of a connection, which HTTP/2 does not have"));
    }
    if *name == TE && !value.eq_ignore_ascii_case(b"trailers") {
        return Err(Refusal::Malformed("TE is something else than trailers"));
    }
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(Refusal::Malformed("a control byte stands in a field"));
    }
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) {
        return Err(Refusal::Malformed("a field begins or ends with a blank"));
    }
    Ok(())
}

/// One field again of those that HTTP/2 may have cut into several (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn translated(method: &str, uri: &str, protocol: Option<&str>, fields: &[(&str, &str)]) -> Result<Parts, String> {
        let mut parts = request(method, uri, fields);
        translate(&mut parts, protocol, || KEY.to_owned()).map(|()| parts).map_err(|r| r.to_string())
    }

    fn refused(method: &str, uri: &str, protocol: Option<&str>, fields: &[(&str, &str)], why: &str) {
        match translated(method, uri, protocol, fields) {
            Err(refusal) => assert!(refusal.contains(why), "{method} {uri} {fields:?}: {refusal}"),
            Ok(parts) => panic!("{method} {uri} {fields:?} was taken: {parts:?}"),
        }
    }

    #[test]
    fn a_request_keeps_its_meaning() {
        let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("te", "trailers"), ("content-length", "3")];
        let parts = translated("POST", "https://A.example:8443/p?q=1", None, &fields).unwrap();
        assert_eq!(parts.headers[HOST], "A.example:8443");
        assert_eq!(parts.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert_eq!(parts.uri.path_and_query().unwrap(), "/p?q=1");
        assert_eq!(
            (&parts.headers["x"], &parts.headers["content-length"]),
            (&"y".parse().unwrap(), &"3".parse().unwrap())
        );
        assert!(translated("OPTIONS", "*", None, &[("host", "a")]).is_ok());
        assert!(translated("GET", "https://a/", None, &[("host", "A")]).is_ok(), "names are alike in any case");
        assert_eq!(translated("GET", "/", None, &[("host", "b:80")]).unwrap().headers[HOST], "b:80");
    }

    #[test]
    fn an_extended_connect_becomes_a_handshake() {
        let fields = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"), ("sec-websocket-key", "x")];
        let parts = translated("CONNECT", "https://a/chat", Some("websocket"), &fields).unwrap();
        assert_eq!((&parts.method, parts.version), (&Method::GET, Version::HTTP_11));
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
            ("host", "a"),
        ] {
            assert_eq!(parts.headers[name], value);
        }
        assert_eq!(parts.headers.get_all(SEC_WEBSOCKET_KEY).iter().count(), 1, "the client's own is no key here");
    }

    #[test]
    fn what_could_be_read_otherwise_behind_us_is_refused() {
        let get = |fields: &[(&str, &str)], why| refused("GET", "https://a/", None, fields, why);
        get(&[("transfer-encoding", "chunked")], "speaks of a connection");
        get(&[("connection", "close")], "speaks of a connection");
        get(&[("keep-alive", "timeout=5")], "speaks of a connection");
        get(&[("proxy-connection", "keep-alive")], "speaks of a connection");
        get(&[("upgrade", "websocket")], "speaks of a connection");
        get(&[("te", "gzip")], "else than trailers");
        get(&[("host", "b")], "not the same");
        get(&[("host", "a"), ("host", "a")], "Host is there twice");
        get(&[("content-length", "1"), ("content-length", "1")], "twice");
        for bad in ["+1", "0x1", "", "1, 1", "18446744073709551616"] {
            get(&[("content-length", bad)], "no number");
        }
        get(&[("x", " y")], "a blank");
        get(&[("x", "y\t")], "a blank");
        refused("GET", "https://u@a/", None, &[], "no host");
        refused("GET", "/", None, &[], "missing");
        refused("GET", "/", None, &[("host", "a,b")], "no host");
        refused("GET", "/", None, &[("host", "")], "no host");
        refused("GET", "ftp://a/", None, &[], ":scheme");
        refused("GET", "*", None, &[("host", "a")], "no path");
        refused("CONNECT", "a:443", None, &[], "CONNECT is not served");
        refused("CONNECT", "https://a/", Some("connect-udp"), &[], "the only protocol");
        refused("GET", "https://a/", Some("websocket"), &[], "without CONNECT");
        refused("CONNECT", "https://a/", Some("websocket"), &[("content-length", "4")], "no body");
        let many: Vec<(&str, &str)> = vec![("x", "y"); MAX_FIELDS + 1];
        get(&many, "more than 100 fields");
    }

    #[test]
    fn bytes_that_end_a_line_are_refused_even_past_the_parser() {
        for bad in ["a\r\nx: y", "a\n", "a\0b", "a\rb", "\u{7f}"] {
            let refusal = field(&HeaderName::from_static("x"), bad.as_bytes()).unwrap_err();
            assert!(refusal.to_string().contains("control byte"), "{bad:?}: {refusal}");
        }
    }

    proptest! {
        /// Whatever comes through can be written as one head of HTTP/1.1 that the screen reads as exactly that head.
        #[test]
        fn what_is_taken_is_one_head_to_the_next_reader(
            method in prop::sample::select(vec!["GET", "POST", "PUT", "OPTIONS"]),
            path in "/[ -~]{0,12}",
            host in "[a-z0-9:.@, -]{0,8}",
            fields in prop::collection::vec(("[a-z-]{1,8}|content-length|te|host|cookie", "[ -~\t]{0,10}|[0-9]{1,3}"), 0..6),
        ) {
            let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
            let mut builder = Request::builder().method(method).uri(uri).header("host", host);
            for (name, value) in &fields {
                builder = builder.header(name, value);
            }
            let Ok(request) = builder.body(()) else { return Ok(()) };
            let mut parts = request.into_parts().0;
            if translate(&mut parts, None, || KEY.to_owned()).is_err() {
                return Ok(());
            }
            let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri);
            for (name, value) in &parts.headers {
                head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
            head.push_str("\r\n");
            let length = parts.headers.get("content-length").map_or(0, |l| decimal(l.as_bytes()).unwrap());
            let mut scanner = crate::proxy::screen::Scanner::new(1 << 20);
            prop_assert!(scanner.scan(head.as_bytes()).is_ok(), "{head:?}");
            prop_assert_eq!(scanner.heads(), 1);
            prop_assert_eq!(scanner.stage() == crate::proxy::screen::Stage::Body, length > 0, "{:?}", head);
        }
    }
}
