//! Which header fields cross the proxy, and which it writes itself. Pure.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, GetAll, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Takes out what speaks of one connection only (RFC 9110 section 7.6.1), also what `Connection` names. `Host` and
/// `Content-Length` stay even if it names them: a client must not be able to hide those from the backend.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH);
    // Most messages have none or one of these: to pass over all fields once costs less than to look for each of them.
    let always = headers.keys().filter(|name| is_hop_by_hop(name)).cloned();
    let gone: Vec<HeaderName> = named.chain(always).collect();
    for name in gone {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == TE
        || *name == PROXY_AUTHENTICATE
        || *name == PROXY_AUTHORIZATION
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// A client as `X-Forwarded-For` names it.
pub(super) fn named(client: IpAddr) -> HeaderValue {
    HeaderValue::try_from(client.to_canonical().to_string()).expect("digits, dots, colons and letters")
}

/// How a client speaks with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Makes a request's fields ready for a backend: `Host` stays as the client wrote it, `X-Forwarded-For` grows by the
/// client, `-Proto` and `-Host` are ours alone. `Expect` goes: it is answered here.
pub(super) fn for_backend(headers: &mut HeaderMap, client: &HeaderValue, scheme: Scheme, host: &HeaderValue) {
    strip_hop_by_hop(headers);
    headers.remove(EXPECT);
    // Once, and not for one after the other.
    headers.reserve(4);
    headers.append(FORWARDED_FOR, client.clone());
    if let Some(chain) = joined(headers.get_all(FORWARDED_FOR)) {
        headers.insert(FORWARDED_FOR, chain);
    }
    let proto = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    if host.is_empty() {
        headers.remove(FORWARDED_HOST);
    } else {
        headers.insert(FORWARDED_HOST, host.clone());
    }
    headers.insert(HOST, host.clone());
}

/// Several values as one; `None`: there is only one.
fn joined(values: GetAll<'_, HeaderValue>) -> Option<HeaderValue> {
    values.iter().nth(1)?;
    let all: Vec<&[u8]> = values.iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::try_from(all.join(&b", "[..])).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_end_to_end_fields_cross() {
        let mut headers = map(&[
            ("connection", "close, X-Mine"),
            ("connection", "host,content-length"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("host", "a"),
            ("x-other", "stays"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("content-length", "3"), ("host", "a"), ("x-other", "stays")]));
    }

    #[test]
    fn the_backend_learns_who_asked() {
        let mut headers = map(&[
            ("x-forwarded-for", "10.9.9.9"),
            ("x-forwarded-for", "10.8.8.8"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "forged"),
            ("expect", "100-continue"),
            ("host", "a:80"),
        ]);
        for_backend(
            &mut headers,
            &named("::ffff:192.0.2.7".parse().unwrap()),
            Scheme::Http,
            &HeaderValue::from_static("a:80"),
        );
        let expected = map(&[
            ("x-forwarded-for", "10.9.9.9, 10.8.8.8, 192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a:80"),
            ("host", "a:80"),
        ]);
        assert_eq!(headers, expected);
    }
}
