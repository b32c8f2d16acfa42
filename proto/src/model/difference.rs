//! Two configs held against each other, thing by thing and value by value, as the document writes them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use super::undo::WasUpstream;
use super::{Certificate, Config, Listener, Touch, Undo, Upstream, Vip, What};
use crate::admin::v1::{self as pb, Step};

/// One thing that is otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which, and what became of it.
    pub touch: Touch,
    /// Its values that are otherwise; all of them if it was added or removed.
    pub fields: Vec<Field>,
}

/// One value that is otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// As the document names it: `check.interval`.
    pub key: String,
    /// As the document writes it; `None`: nothing.
    pub before: Option<String>,
    /// The same.
    pub after: Option<String>,
}

impl From<Difference> for Step {
    fn from(d: Difference) -> Self {
        let fields = d.fields.into_iter().map(|f| pb::Field { key: f.key, before: f.before, after: f.after });
        Self { touch: Some((&d.touch).into()), fields: fields.collect(), ..Self::default() }
    }
}

impl Difference {
    /// What is otherwise in `after` than in `before`: kind by kind, each by name; backends after their upstream.
    pub fn between(before: &Config, after: &Config) -> Vec<Self> {
        let undo = Undo::between(before, after);
        let mut all = Vec::new();
        each("listeners", &undo.listeners, &after.listeners, Listener::table, &mut all);
        each("routes", &undo.routes, &after.routes, |r| r.table(), &mut all);
        for (name, was) in &undo.upstreams {
            let is = after.upstreams.get(name).map(|u| &**u);
            upstream(&format!("upstreams.{name}"), was.as_ref(), is, &mut all);
        }
        each("vips", &undo.vips, &after.vips, Vip::table, &mut all);
        each("certificates", &undo.certificates, &after.certificates, |c| about(c), &mut all);
        if undo.settings.is_some() {
            let (was, is) = (before.settings.table(), after.settings.table());
            all.push(Self::of("settings".to_owned(), Some(was), Some(is)));
        }
        all
    }

    fn of(path: String, before: Option<toml::Table>, after: Option<toml::Table>) -> Self {
        let what = What::of(before.as_ref(), after.as_ref());
        let (before, after) = (flat(before), flat(after));
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let field = |key: &String| {
            let (before, after) = (before.get(key).cloned(), after.get(key).cloned());
            (before != after).then(|| Field { key: key.clone(), before, after })
        };
        Self { touch: Touch { path, what }, fields: keys.into_iter().filter_map(field).collect() }
    }
}

fn each<K: Ord + ToString, T>(
    kind: &str,
    was: &BTreeMap<K, Option<T>>,
    after: &BTreeMap<K, T>,
    table: impl Fn(&T) -> toml::Table,
    all: &mut Vec<Difference>,
) {
    for (key, was) in was {
        let (was, is) = (was.as_ref().map(&table), after.get(key).map(&table));
        all.push(Difference::of(format!("{kind}.{}", key.to_string()), was, is));
    }
}

fn upstream(path: &str, was: Option<&WasUpstream>, is: Option<&Upstream>, all: &mut Vec<Difference>) {
    let own = |u: &Upstream| u.without_backends().table();
    let none = Upstream::default();
    let (was_own, was_backends) = match was {
        None => (None, BTreeMap::new()),
        Some(WasUpstream::Whole(u)) => {
            (Some(own(u)), u.backends.iter().map(|(a, b)| (a.clone(), Some(b.clone()))).collect())
        }
        Some(WasUpstream::Parts { own: Some(u), backends }) => (Some(own(u)), backends.clone()),
        Some(WasUpstream::Parts { own: None, backends }) => (is.map(own), backends.clone()),
    };
    let is_own = is.map(own);
    if was_own != is_own {
        all.push(Difference::of(path.to_owned(), was_own, is_own));
    }
    let is = is.unwrap_or(&none);
    // A whole upstream that came brings all of its backends.
    let mut touched = was_backends;
    if was.is_none() {
        touched.extend(is.backends.keys().map(|a| (a.clone(), None)));
    }
    for (address, was) in touched {
        let table = |b: &super::Backend| {
            let mut table = b.table(&address);
            // The path says it.
            table.remove("address");
            table
        };
        let (was, is) = (was.as_ref().map(table), is.backends.get(&address).map(table));
        all.push(Difference::of(format!("{path}.backends.{address}"), was, is));
    }
}

/// What there is to see of a certificate: neither PEM nor the sealed key tells a person anything.
fn about(c: &Certificate) -> toml::Table {
    let until = u64::try_from(c.not_after()).unwrap_or(0);
    let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(until)).to_string();
    toml::toml! {
        names = (c.names().to_vec())
        until = (until)
    }
}

/// Tables in tables as one: `check.interval`.
fn flat(table: Option<toml::Table>) -> BTreeMap<String, String> {
    fn walk(prefix: &str, table: toml::Table, all: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) => walk(&key, inner, all),
                toml::Value::String(text) if text.contains('\n') => {
                    let (first, lines) = (text.lines().next().unwrap_or_default(), text.lines().count());
                    all.insert(key, format!("{first:?} and {} more lines", lines.saturating_sub(1)));
                }
                value => drop(all.insert(key, value.to_string())),
            }
        }
    }
    let mut all = BTreeMap::new();
    walk("", table.unwrap_or_default(), &mut all);
    all
}
