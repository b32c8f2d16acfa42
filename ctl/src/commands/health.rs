//! How the nodes find a backend, in words. Each checks for itself, so that they need not agree. Pure.

use std::collections::BTreeMap;

use tandem_proto::admin::v1::BackendReport;

use super::words::or_dash;

/// How one node finds it; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health<'a> {
    /// Its checks fail: why.
    Down(&'a str),
    /// Its checks do not fail, but clients cannot be taken to it over TLS: why.
    NoTls(&'a str),
    /// It gets no clients for a while because it failed too many: the last failure.
    Ejected(&'a str),
    /// It takes clients.
    Up,
}

impl<'a> Health<'a> {
    pub(super) fn of(b: &'a BackendReport) -> Self {
        match b.ejected_for_ms {
            _ if !b.up => Self::Down(&b.error),
            _ if !b.tls_error.is_empty() => Self::NoTls(&b.tls_error),
            0 => Self::Up,
            _ => Self::Ejected(&b.error),
        }
    }

    fn why(self) -> String {
        match self {
            Self::Down("") | Self::NoTls("") | Self::Ejected("") | Self::Up => String::new(),
            Self::Down(why) | Self::NoTls(why) | Self::Ejected(why) => format!(": {why}"),
        }
    }
}

/// How much longer it is ejected.
pub(super) fn left(b: &BackendReport) -> String {
    format!("{} s", b.ejected_for_ms.div_ceil(1000))
}

/// In a table: how every node that was asked finds it, in one word where they agree.
pub(super) fn found(seen: &[(String, &BackendReport)]) -> String {
    let mut findings: BTreeMap<Health<'_>, Vec<&(String, &BackendReport)>> = BTreeMap::new();
    for one in seen {
        findings.entry(Health::of(one.1)).or_default().push(one);
    }
    let agreed = findings.len() == 1;
    let words = findings.into_iter().map(|(health, by)| {
        let word = match health {
            Health::Down(_) => "DOWN".to_owned(),
            Health::NoTls(_) => "NO TLS".to_owned(),
            Health::Up => "up".to_owned(),
            // The node that keeps it out for longest.
            Health::Ejected(_) => {
                let longest = by.iter().max_by_key(|(_, b)| b.ejected_for_ms);
                format!("ejected {}", longest.map(|(_, b)| left(b)).unwrap_or_default())
            }
        };
        let nodes: Vec<&str> = by.iter().map(|(node, _)| node.as_str()).collect();
        let on = if agreed { String::new() } else { format!(" on {}", nodes.join(", ")) };
        format!("{word}{on}{}", health.why())
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "unknown".to_owned() } else { words.join("; ") }
}

/// A line for each backend that gets no clients, or that they cannot be taken to, in this order: its label; and where, who finds it so, and why.
pub(super) fn troubles<'a>(seen: impl Iterator<Item = (String, &'a BackendReport)>) -> Vec<(&'static str, String)> {
    let mut all: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (node, b) in seen {
        let (label, by, node, why) = match Health::of(b) {
            Health::Up => continue,
            Health::Down(why) => ("down:", "seen from", node, why),
            Health::NoTls(why) => ("no TLS:", "seen from", node, why),
            Health::Ejected(why) => ("ejected:", "by", format!("{node} (back in {})", left(b)), why),
        };
        all.entry((label, by, &b.upstream, &b.address, why)).or_default().push(node);
    }
    let line = |((label, by, upstream, address, why), nodes): (_, Vec<String>)| {
        let why = or_dash(str::to_owned(why));
        (label, format!("{address} of {upstream}, {by} {}: {why}", nodes.join(", ")))
    };
    all.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(up: bool, ejected_for_ms: u32, error: &str) -> BackendReport {
        BackendReport { up, ejected_for_ms, error: error.to_owned(), ..Default::default() }
    }

    fn found_by(reports: &[BackendReport]) -> String {
        let seen: Vec<_> = ["a", "b", "c"].iter().map(ToString::to_string).zip(reports).collect();
        found(&seen)
    }

    #[test]
    fn where_nodes_agree_one_word_is_enough() {
        let down = || report(false, 0, "check: answered 503");
        assert_eq!(found_by(&[]), "unknown");
        assert_eq!(found_by(&[report(true, 0, "long ago"), report(true, 0, "")]), "up");
        assert_eq!(found_by(&[down(), down()]), "DOWN: check: answered 503");
        assert_eq!(found_by(&[report(false, 0, "")]), "DOWN");
        let no_tls =
            |ms| BackendReport { tls_error: "not believed".to_owned(), ..report(true, ms, "failed 5 clients") };
        assert_eq!(found_by(&[no_tls(0), no_tls(9_000)]), "NO TLS: not believed", "that is why it is ejected");
        let ejected = |ms| report(true, ms, "failed 5 clients in a row");
        assert_eq!(found_by(&[ejected(3_001), ejected(12_000)]), "ejected 12 s: failed 5 clients in a row");
        assert_eq!(found_by(&[ejected(3_001)]), "ejected 4 s: failed 5 clients in a row");
    }

    #[test]
    fn where_they_do_not_each_has_its_say() {
        let all = [report(true, 0, ""), report(false, 9, "check: no pong within 500ms"), report(true, 0, "")];
        assert_eq!(found_by(&all), "DOWN on b: check: no pong within 500ms; up on a, c");
        let all = [report(true, 1, "x"), report(false, 0, "y"), report(false, 0, "z")];
        assert_eq!(found_by(&all), "DOWN on b: y; DOWN on c: z; ejected 1 s on a: x");
    }
}
