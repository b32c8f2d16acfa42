//! What a request becomes on its way: its path, its header fields, and where a client is sent instead. Pure.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use super::error::Error;
use crate::config::model::{HeaderOps, NewPath, Path, Redirect, Template, Var, without_port};

/// A request as its client made it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) client: IpAddr,
    /// Perhaps with a port; empty if there was none.
    pub(super) host: &'a HeaderValue,
    pub(super) target: &'a PathAndQuery,
    pub(super) listener: &'a str,
    pub(super) route: &'a str,
}

impl Said<'_> {
    /// Nothing here can break out of a header field: it stood in a request line or a field before, and none is decoded.
    fn write(&self, var: Var, out: &mut String) {
        match var {
            Var::ClientIp => out.push_str(&self.client.to_canonical().to_string()),
            Var::Host => out.push_str(without_port(self.host.to_str().unwrap_or_default())),
            Var::Path => out.push_str(self.target.path()),
            Var::Query => {
                if let Some(query) = self.target.query() {
                    out.push('?');
                    out.push_str(query);
                }
            }
            Var::Listener => out.push_str(self.listener),
            Var::Route => out.push_str(self.route),
        }
    }
}

/// What a route does to header fields, ready to use.
#[derive(Debug, Default)]
pub(super) struct Ops {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
    add: Vec<(HeaderName, Value)>,
}

#[derive(Debug)]
enum Value {
    Fixed(HeaderValue),
    Filled(Template<Var>),
}

impl Value {
    fn new(given: &Template<Var>) -> Self {
        let fixed = given.fixed().and_then(|text| HeaderValue::from_str(text).ok());
        fixed.map_or_else(|| Self::Filled(given.clone()), Self::Fixed)
    }

    /// `None`: the client's host or path holds what no header field can; the field is left out.
    fn of(&self, said: &Said<'_>) -> Option<HeaderValue> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Filled(template) => {
                HeaderValue::try_from(template.fill(|var, out| said.write(*var, out)).into_bytes()).ok()
            }
        }
    }
}

impl Ops {
    pub(super) fn new(given: &HeaderOps) -> Self {
        let all = |pairs: &[(HeaderName, Template<Var>)]| {
            pairs.iter().map(|(name, value)| (name.clone(), Value::new(value))).collect()
        };
        Self { remove: given.remove.clone(), set: all(&given.set), add: all(&given.add) }
    }

    /// Removes, sets, adds.
    pub(super) fn apply(&self, headers: &mut HeaderMap, said: &Said<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            match value.of(said) {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.of(said) {
                headers.append(name, value);
            }
        }
    }
}

/// The path and query a backend is asked for. `taken`: the paths of the route.
///
/// # Errors
/// What comes out is no path: the client asks for what the route cannot rewrite.
pub(super) fn target(new: &NewPath, taken: &Path, asked: &PathAndQuery) -> Result<PathAndQuery, Error> {
    let path = asked.path();
    let made = match new {
        NewPath::Same => return Ok(asked.clone()),
        NewPath::Without(prefix) => match below(prefix, path) {
            Some(rest) => joined("/", rest),
            None => return Ok(asked.clone()),
        },
        NewPath::Instead(prefix) => match taken {
            Path::Prefix(own) => joined(prefix, path.strip_prefix(own.as_str()).unwrap_or_default()),
            Path::Exact(_) | Path::Regex(_) => return Ok(asked.clone()),
        },
        NewPath::Made(pattern, to) => match pattern.captures(path) {
            Some(groups) => {
                let group = |n: &usize, out: &mut String| out.push_str(groups.get(*n).map_or("", |g| g.as_str()));
                let made = to.fill(group);
                if made.starts_with('/') { made } else { format!("/{made}") }
            }
            None => return Ok(asked.clone()),
        },
    };
    let whole = match asked.query() {
        Some(query) if made.contains('?') => format!("{made}&{query}"),
        Some(query) => format!("{made}?{query}"),
        None => made,
    };
    PathAndQuery::try_from(whole).map_err(|_| Error::Request("the path cannot be rewritten as its route says"))
}

/// What is behind a prefix on a segment border.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// One slash between the two.
fn joined(front: &str, rest: &str) -> String {
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match (front.strip_suffix('/'), rest) {
        (None, "") => front.to_owned(),
        (front_bare, rest) => format!("{}/{rest}", front_bare.unwrap_or(front)),
    }
}

/// Where a client is sent.
///
/// # Errors
/// The client's host or path cannot be part of a URL.
pub(super) fn location(redirect: &Redirect, said: &Said<'_>) -> Result<HeaderValue, Error> {
    if redirect.to.slots().any(|var| *var == Var::Host) {
        let mut host = String::new();
        said.write(Var::Host, &mut host);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(Error::Request("the redirect needs a Host, and this is none"));
        }
    }
    let mut to = redirect.to.fill(|var, out| said.write(*var, out));
    if to.starts_with('/') {
        // A path of two slashes would be another host (RFC 3986 section 4.2), and browsers take \ for /.
        to = format!("/{}", to.trim_start_matches(['/', '\\']));
    }
    HeaderValue::try_from(to.into_bytes()).map_err(|_| Error::Request("the path cannot be part of a URL"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::model::{Action, Config};

    /// The one route of a document, checked.
    fn route(text: &str) -> std::sync::Arc<crate::config::model::Route> {
        let text = format!("upstreams.u = {{}}\nlisteners.l.address = \"10.0.0.1:80\"\n[routes.r]\n{text}");
        let said = tandem_proto::document::parse(&text).unwrap();
        Config::try_from(&said).unwrap().routes.pop_first().unwrap().1
    }

    fn rewritten(text: &str, asked: &str) -> String {
        let route = route(&format!("upstream = \"u\"\n{text}"));
        target(&route.rewrite.path, &route.matching.path, &asked.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn paths_are_rewritten_and_queries_stay() {
        let strip = "rewrite.strip_prefix = \"/api\"";
        let replace = "path = \"/old\"\nrewrite.replace_prefix = \"/new\"";
        let root = "rewrite.replace_prefix = \"/v2/\"";
        let regex = "rewrite = { regex = \"/u/([0-9]+)(?<rest>/.*)?\", to = \"/user{rest}?id={1}\" }";
        for (text, asked, expected) in [
            ("", "/a%20b?x=%0d", "/a%20b?x=%0d"),
            (strip, "/api/x?q=/api", "/x?q=/api"),
            (strip, "/api", "/"),
            (strip, "/api/", "/"),
            (strip, "/apis", "/apis"),
            (strip, "/x/api", "/x/api"),
            (strip, "/api//evil", "//evil"),
            (replace, "/old", "/new"),
            (replace, "/old/x?y", "/new/x?y"),
            (root, "/x", "/v2/x"),
            (root, "/", "/v2/"),
            (regex, "/u/7", "/user?id=7"),
            (regex, "/u/7/b?x=1", "/user/b?id=7&x=1"),
            (regex, "/u/x", "/u/x"),
        ] {
            assert_eq!(rewritten(text, asked), expected, "{text} of {asked}");
        }
    }

    fn said<'a>(host: &'a HeaderValue, target: &'a PathAndQuery) -> Said<'a> {
        Said { client: [192, 0, 2, 7].into(), host, target, listener: "web", route: "r" }
    }

    fn sent(to: &str, host: &'static str, asked: &'static str) -> Result<String, String> {
        let route = route(&format!("redirect.to = \"{to}\""));
        let Action::Redirect(redirect) = &route.action else { unreachable!("it is one") };
        let (host, target) = (HeaderValue::from_static(host), PathAndQuery::from_static(asked));
        let to = location(redirect, &said(&host, &target)).map_err(|e| e.to_string())?;
        Ok(to.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_redirect_keeps_what_it_names_and_stays_where_it_says() {
        let secure = "https://{host}{path}{query}";
        assert_eq!(sent(secure, "a.example:8080", "/x?y=1").as_deref(), Ok("https://a.example/x?y=1"));
        assert_eq!(sent(secure, "[::1]:8080", "/").as_deref(), Ok("https://[::1]/"));
        assert_eq!(sent("/new{path}", "", "/x?y").as_deref(), Ok("/new/x"));
        assert_eq!(sent("{path}", "a", "//evil.example/x").as_deref(), Ok("/evil.example/x"));
        assert_eq!(sent("/{path}", "a", "/x").as_deref(), Ok("/x"));
        for host in ["", "a/b", "a@b", "a?b"] {
            assert!(sent(secure, host, "/").unwrap_err().contains("needs a Host"), "{host}");
        }
    }

    #[test]
    fn fields_go_come_and_change_in_this_order() {
        let route = route(
            "upstream = \"u\"\nrequest_headers = { remove = [\"x-gone\"], set = [\"x-set: {client_ip} {{}}\", \"x-gone: back\"], \
             add = [\"x-add: {listener}/{route}\", \"x-add: {host}{path}{query}\"] }",
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-gone", "1"), ("x-set", "1"), ("x-set", "2"), ("x-add", "0"), ("x-other", "stays")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let (host, target) = (HeaderValue::from_static("h:80"), PathAndQuery::from_static("/p?q=%0d%0aX:1"));
        Ops::new(&route.request_headers).apply(&mut headers, &said(&host, &target));
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-gone"), ["back"]);
        assert_eq!(all("x-set"), ["192.0.2.7 {}"]);
        assert_eq!(all("x-add"), ["0", "web/r", "h/p?q=%0d%0aX:1"]);
        assert_eq!(all("x-other"), ["stays"]);
    }
}
