//! Which upstream takes a request: the host first, then the longest path prefix on segment borders. Pure.

use std::collections::BTreeMap;

use crate::config::model::{Host, Route};

/// The routes of one config, each leading to a `T`.
#[derive(Debug)]
pub(super) struct Routes<T> {
    exact: BTreeMap<String, Vec<(String, T)>>,
    any: Vec<(String, T)>,
}

impl<T> Routes<T> {
    /// Where each route leads is `T`.
    pub(super) fn new<'a>(routes: impl Iterator<Item = (&'a Route, T)>) -> Self {
        let mut this = Self { exact: BTreeMap::new(), any: Vec::new() };
        for (route, to) in routes {
            let paths = match &route.host {
                Host::Exact(host) => this.exact.entry(bare(host).to_owned()).or_default(),
                Host::Any => &mut this.any,
            };
            paths.push((route.path.clone(), to));
        }
        for paths in this.exact.values_mut().chain([&mut this.any]) {
            paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
        this
    }

    /// `host` as the client wrote it, perhaps with a port; `path` without the query. A host that is named takes all its
    /// requests: where none of its paths fit, the routes for any host are asked.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&T> {
        let host = without_port(host).to_ascii_lowercase();
        let named = self.exact.get(bare(&host)).and_then(|paths| first(paths, path));
        named.or_else(|| first(&self.any, path))
    }
}

fn first<'a, T>(paths: &'a [(String, T)], path: &str) -> Option<&'a T> {
    paths.iter().find(|(prefix, _)| is_prefix(prefix, path)).map(|(_, to)| to)
}

/// `/a` takes `/a` and `/a/b`, not `/ab`; `/a/` takes only what is below it.
fn is_prefix(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

fn without_port(host: &str) -> &str {
    let Some((name, port)) = host.rsplit_once(':') else { return host };
    // An IPv6 address in brackets has colons of its own.
    if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) { name } else { host }
}

/// A config may name an IPv6 host with or without brackets; a trailing dot is the same name (RFC 9110 says nothing, DNS does).
fn bare(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Name;

    fn routes(all: &[(&str, &str, &'static str)]) -> Routes<&'static str> {
        let upstream = Name::new("u").expect("a name");
        let all: Vec<(Route, &'static str)> = all
            .iter()
            .map(|(host, path, to)| {
                let host = if *host == "*" { Host::Any } else { Host::Exact((*host).to_owned()) };
                (Route { host, path: (*path).to_owned(), ..Route::to(upstream.clone()) }, *to)
            })
            .collect();
        Routes::new(all.iter().map(|(r, t)| (r, *t)))
    }

    #[test]
    fn the_host_beats_any_and_the_longest_path_wins() {
        let r = routes(&[
            ("*", "/", "any"),
            ("*", "/chat", "any-chat"),
            ("a.example", "/api", "a-api"),
            ("a.example", "/api/v2", "a-v2"),
            ("::1", "/", "six"),
        ]);
        for (host, path, to) in [
            ("b.example", "/", Some(&"any")),
            ("", "/x", Some(&"any")),
            ("b.example", "/chat", Some(&"any-chat")),
            ("b.example", "/chat/room", Some(&"any-chat")),
            ("b.example", "/chatter", Some(&"any")),
            ("A.Example:8080", "/api/v2/x", Some(&"a-v2")),
            ("a.example.", "/api/v22", Some(&"a-api")),
            ("a.example", "/other", Some(&"any")),
            ("[::1]:80", "/", Some(&"six")),
            ("[::1]", "/", Some(&"six")),
        ] {
            assert_eq!(r.find(host, path), to, "{host}{path}");
        }
        assert_eq!(routes(&[("a", "/x/", "x")]).find("a", "/x"), None);
        assert_eq!(routes(&[("a", "/x/", "x")]).find("a", "/x/y"), Some(&"x"));
        assert_eq!(routes(&[]).find("a", "/"), None);
    }
}
