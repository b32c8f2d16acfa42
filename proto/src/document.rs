//! The config as a TOML document: what `config apply` reads and `config show` writes.

use std::fmt::Write as _;
use std::time::Duration;

use crate::config::v1 as pb;
use crate::model::{self, Balance, CheckKind, State};
use crate::{Problems, Table};

/// Reads a whole document and checks it.
///
/// # Errors
/// Every mistake in it: syntax, unknown keys, wrong types, bad values, broken references.
pub fn parse(text: &str) -> Result<pb::Config, Problems> {
    let mut problems = Problems::default();
    let config = read(Table::document(text)?, &mut problems);
    if let Err(more) = model::Config::try_from(&config) {
        problems.extend(more);
    }
    problems.into_result().map(|()| config)
}

fn read(mut top: Table, problems: &mut Problems) -> pb::Config {
    let mut config = pb::Config::default();
    for (name, mut t) in top.named("listeners", problems) {
        let address = t.text("address", problems).unwrap_or_default();
        config.listeners.push(pb::Listener { name, address });
        t.finish(problems);
    }
    for (name, mut t) in top.named("routes", problems) {
        let host = t.text("host", problems).unwrap_or_default();
        let path = t.text("path", problems).unwrap_or_default();
        let upstream = t.text("upstream", problems).unwrap_or_default();
        config.routes.push(pb::Route { name, host, path, upstream });
        t.finish(problems);
    }
    for (name, mut t) in top.named("upstreams", problems) {
        let balance = word(&mut t, "balance", Balance::WORDS, problems).map_or(0, |b| pb::Balance::from(b).into());
        let check = t.table("check", problems).map(|t| read_check(t, problems));
        let backends = t.list("backends", problems).into_iter().map(|t| read_backend(t, problems)).collect();
        config.upstreams.push(pb::Upstream { name, balance, check, backends });
        t.finish(problems);
    }
    for (name, mut t) in top.named("vips", problems) {
        let address = t.text("address", problems).unwrap_or_default();
        config.vips.push(pb::Vip { name, address });
        t.finish(problems);
    }
    top.finish(problems);
    config
}

fn read_check(mut t: Table, problems: &mut Problems) -> pb::Check {
    let check = pb::Check {
        kind: word(&mut t, "kind", CheckKind::WORDS, problems).map_or(0, |k| pb::CheckKind::from(k).into()),
        interval_ms: t.duration("interval", problems).map_or(0, millis),
        timeout_ms: t.duration("timeout", problems).map_or(0, millis),
        rise: t.number("rise", problems).unwrap_or(0),
        fall: t.number("fall", problems).unwrap_or(0),
    };
    t.finish(problems);
    check
}

fn read_backend(mut t: Table, problems: &mut Problems) -> pb::Backend {
    let backend = pb::Backend {
        address: t.text("address", problems).unwrap_or_default(),
        weight: t.number("weight", problems).unwrap_or(0),
        state: word(&mut t, "state", State::WORDS, problems).map_or(0, |s| pb::BackendState::from(s).into()),
    };
    t.finish(problems);
    backend
}

fn word<T: Copy>(t: &mut Table, key: &'static str, words: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let text = t.text(key, problems)?;
    let found = words.iter().find(|(w, _)| *w == text).map(|(_, v)| *v);
    if found.is_none() {
        let all: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        problems.add(t.path(key), text, "is not known here", format!("use one of: {}", all.join(", ")));
    }
    found
}

fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Writes a document that [`parse`] reads back to the same config.
pub fn render(config: &model::Config) -> String {
    let mut out = String::new();
    write_all(config, &mut out).expect("writing to a String cannot fail");
    out
}

fn write_all(config: &model::Config, out: &mut String) -> std::fmt::Result {
    for (name, l) in &config.listeners {
        writeln!(out, "[listeners.{}]\naddress = \"{}\"\n", key(name), l.address)?;
    }
    for (name, r) in &config.routes {
        writeln!(
            out,
            "[routes.{}]\nhost = \"{}\"\npath = {}\nupstream = \"{}\"\n",
            key(name),
            r.host,
            quoted(&r.path),
            r.upstream
        )?;
    }
    for (name, u) in &config.upstreams {
        let c = &u.check;
        writeln!(out, "[upstreams.{}]\nbalance = \"{}\"", key(name), u.balance)?;
        writeln!(
            out,
            "check = {{ kind = \"{}\", interval = \"{}\", timeout = \"{}\", rise = {}, fall = {} }}\n",
            c.kind,
            humantime::format_duration(c.interval),
            humantime::format_duration(c.timeout),
            c.rise,
            c.fall
        )?;
        for (address, b) in &u.backends {
            writeln!(
                out,
                "[[upstreams.{}.backends]]\naddress = \"{address}\"\nweight = {}\nstate = \"{}\"\n",
                key(name),
                b.weight,
                b.state
            )?;
        }
    }
    for (name, v) in &config.vips {
        writeln!(out, "[vips.{}]\naddress = \"{}\"\n", key(name), v.address)?;
    }
    Ok(())
}

/// A bare TOML key cannot hold a dot.
fn key(name: &model::Name) -> String {
    if name.as_str().contains('.') { format!("\"{name}\"") } else { name.to_string() }
}

/// A path may hold quotes and backslashes.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
