//! What draws a request to a certain backend: the key that `hash` looks at, and the cookie of an earlier answer.

use std::net::IpAddr;

use http::header::HeaderMap;
use http::uri::Uri;

use super::hash::hashed;
use super::sticky::{Sticky, cookie};
use crate::config::model::HashOn;

/// Found once for each request, however many backends are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) struct Affinity {
    /// What `hash` looks at, hashed; `None`: the upstream does not, or the request has none.
    pub(in crate::proxy) key: Option<u64>,
    /// The mark of the backend its cookie names.
    pub(in crate::proxy) stuck: Option<u64>,
}

impl Affinity {
    /// Of a request from `client`; `hash_on` and `sticky` where the upstream uses them.
    pub(in crate::proxy) fn of(
        hash_on: Option<&HashOn>,
        sticky: Option<&Sticky>,
        client: IpAddr,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Self {
        Self {
            key: hash_on.and_then(|on| key(on, client, uri, headers)),
            stuck: sticky.and_then(|sticky| sticky.read(headers)),
        }
    }
}

/// An empty value is none: otherwise all who have none would crowd at one backend.
fn key(on: &HashOn, client: IpAddr, uri: &Uri, headers: &HeaderMap) -> Option<u64> {
    let bytes = match on {
        HashOn::ClientIp => return Some(network(client)),
        HashOn::Header(name) => headers.get(name.as_str()).map(|v| v.as_bytes().trim_ascii()),
        HashOn::Cookie(name) => cookie(headers, name),
        HashOn::Query(name) => uri.query().and_then(|query| parameter(query, name)).map(str::as_bytes),
        HashOn::Path => Some(uri.path().as_bytes()),
    };
    bytes.filter(|bytes| !bytes.is_empty()).map(hashed)
}

/// Of IPv6 the first 64 bits: in the others a client changes its address every few hours (RFC 8981).
fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => hashed(&ip.octets()),
        IpAddr::V6(ip) => hashed(&ip.octets()[..8]),
    }
}

/// The first value of that name, as it was sent.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::header::{COOKIE, HeaderValue};

    use super::*;

    fn of(on: &str, client: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> Option<u64> {
        let headers =
            headers.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))).collect();
        let on = on.parse().unwrap();
        Affinity::of(Some(&on), None, client.parse().unwrap(), &uri.parse().unwrap(), &headers).key
    }

    #[test]
    fn each_key_is_found_where_it_is() {
        let room = Some(hashed(b"room-7"));
        for (on, uri, headers) in [
            ("header:X-Room", "/", &[("x-room", " room-7"), ("x-room", "other")][..]),
            ("cookie:room", "/", &[("cookie", "a=1; room=room-7")]),
            ("query:room", "/chat?x=1&room=room-7&room=8", &[]),
        ] {
            assert_eq!(of(on, "192.0.2.1", uri, headers), room, "{on}");
        }
        assert_eq!(of("path", "192.0.2.1", "/room-7?x=1", &[]), Some(hashed(b"/room-7")));
        assert_eq!(of("client_ip", "192.0.2.1", "/", &[]), Some(hashed(&[192, 0, 2, 1])));
    }

    #[test]
    fn a_missing_or_empty_key_is_none() {
        for (on, uri, headers) in [
            ("header:x-room", "/", &[("x-other", "1")][..]),
            ("header:x-room", "/", &[("x-room", "")]),
            ("cookie:room", "/", &[("cookie", "rooms=1; aroom=2")]),
            ("cookie:room", "/", &[("cookie", "room=")]),
            ("query:room", "/chat", &[]),
            ("query:room", "/chat?rooms=1&room", &[]),
        ] {
            assert_eq!(of(on, "192.0.2.1", uri, headers), None, "{on} {uri}");
        }
    }

    #[test]
    fn one_client_is_one_client() {
        let at = |ip| of("client_ip", ip, "/", &[]);
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::abcd:1"), "one network of IPv6");
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    }

    #[test]
    fn only_what_the_upstream_uses_is_looked_for() {
        let headers = [(COOKIE, HeaderValue::from_static("sid=00000000000000ab"))].into_iter().collect();
        let (client, uri) = (IpAddr::from([192, 0, 2, 1]), Uri::from_static("/"));
        assert_eq!(Affinity::of(None, None, client, &uri, &headers), Affinity::default());
        let given = crate::config::model::Sticky { cookie: "sid".to_owned(), ttl: None, secure: false };
        let stuck = Affinity::of(None, Some(&Sticky::new(&given)), client, &uri, &headers);
        assert_eq!(stuck, Affinity { key: None, stuck: Some(0xab) });
    }
}
