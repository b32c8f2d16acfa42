//! Sticky sessions: a cookie says which backend, in a way that every node understands by itself.

use std::fmt::Write;

use http::header::{COOKIE, HeaderMap, HeaderValue};

use crate::config::model;
use crate::proxy::headers::Scheme;

/// How sessions of one upstream stick.
#[derive(Debug)]
pub(in crate::proxy) struct Sticky {
    name: String,
    attributes: String,
    /// Also where the client speaks plainly: somebody before us speaks TLS.
    secure: bool,
}

impl Sticky {
    /// Ready to use.
    pub(in crate::proxy) fn new(given: &model::Sticky) -> Self {
        // Lax: a page elsewhere cannot steer a session, a link from there still finds it.
        let mut attributes = "; Path=/; HttpOnly; SameSite=Lax".to_owned();
        if let Some(ttl) = given.ttl {
            // Writing to a String cannot fail.
            let _ = write!(attributes, "; Max-Age={}", ttl.as_secs());
        }
        Self { name: given.cookie.clone(), attributes, secure: given.secure }
    }

    /// The mark of the backend a request brings along; `None`: none, or nothing we have written.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<u64> {
        let value = std::str::from_utf8(cookie(headers, &self.name)?).ok()?;
        let ours = value.len() == 16 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(value, 16).ok().filter(|_| ours)
    }

    /// `Set-Cookie` (RFC 6265 section 4.1) for the backend with this mark.
    pub(in crate::proxy) fn written(&self, mark: u64, scheme: Scheme) -> Option<HeaderValue> {
        let secure = if self.secure || scheme == Scheme::Https { "; Secure" } else { "" };
        // The name is a token, the rest is ours: it always is a header's value.
        HeaderValue::try_from(format!("{}={mark:016x}{}{secure}", self.name, self.attributes)).ok()
    }
}

/// The value of the first cookie of this name (RFC 6265 section 5.4), as it was sent.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn sticky() -> Sticky {
        Sticky::new(&model::Sticky { cookie: "sid".to_owned(), ttl: None, secure: false })
    }

    fn sent(cookies: &[&'static str]) -> HeaderMap {
        cookies.iter().map(|c| (COOKIE, HeaderValue::from_static(c))).collect()
    }

    #[test]
    fn it_is_written_as_browsers_want_it() {
        assert_eq!(
            sticky().written(0xab, Scheme::Http).unwrap(),
            "sid=00000000000000ab; Path=/; HttpOnly; SameSite=Lax"
        );
        assert!(sticky().written(0xab, Scheme::Https).unwrap().to_str().unwrap().ends_with("; Secure"));
        let ttl = Some(Duration::from_secs(3600));
        let all = Sticky::new(&model::Sticky { cookie: "sid".to_owned(), ttl, secure: true });
        assert_eq!(
            all.written(1, Scheme::Http).unwrap(),
            "sid=0000000000000001; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"
        );
    }

    #[test]
    fn what_was_written_is_read_among_others() {
        for cookies in [
            &["sid=00000000000000ab"][..],
            &["a=b; sid=00000000000000ab; c=d"],
            &["xsid=1;sid=00000000000000ab ;sid=2"],
            &["a=b", "sid=00000000000000ab"],
        ] {
            assert_eq!(sticky().read(&sent(cookies)), Some(0xab), "{cookies:?}");
        }
    }

    #[test]
    fn what_we_never_wrote_is_no_cookie_of_ours() {
        for cookies in [
            &[][..],
            &["sid="],
            &["sid=ab"],
            &["sid=00000000000000AB"],
            &["sid=+0000000000000ab"],
            &["sid=00000000000000abc"],
            &["Sid=00000000000000ab"],
            &["xsid=00000000000000ab"],
            &["sid2=00000000000000ab"],
            &["sid=\u{e9}000000000000ab"],
        ] {
            let headers: HeaderMap =
                cookies.iter().map(|c| (COOKIE, HeaderValue::from_bytes(c.as_bytes()).unwrap())).collect();
            assert_eq!(sticky().read(&headers), None, "{cookies:?}");
        }
    }
}
