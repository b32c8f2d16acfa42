//! The house stands: imports go down only, and pure rooms know neither clock nor chance nor socket.

use std::fs;
use std::path::{Path, PathBuf};

use tandem_tests::binaries::workspace;

/// The floor of each room of the node. Neighbours on one floor never meet, save those that are one room.
const FLOORS: [(&str, u8); 13] = [
    ("main", 6),
    ("demo", 6),
    ("begin", 6),
    ("node", 5),
    ("admin", 4),
    ("vip", 3),
    ("proxy", 3),
    ("control", 2),
    ("config", 1),
    ("trust", 1),
    ("metrics", 0),
    ("logs", 0),
    ("secrets", 0),
];

/// Below, and yet strangers: the data plane does not know that consensus exists.
const STRANGERS: [(&str, &str); 1] = [("proxy", "control")];

/// Rooms whose time and chance are arguments.
const PURE: [&str; 42] = [
    "admin/status.rs",
    "control/history.rs",
    "control/level.rs",
    "control/roll.rs",
    "control/roster.rs",
    "control/state.rs",
    "control/standing.rs",
    "control/trust.rs",
    "vip/arp.rs",
    "vip/guard/book.rs",
    "vip/guard/words.rs",
    "vip/lease.rs",
    "vip/neighbour.rs",
    "vip/proof.rs",
    "proxy/rewrite.rs",
    "proxy/route.rs",
    "proxy/balance/affinity.rs",
    "proxy/balance/candidate.rs",
    "proxy/balance/choice.rs",
    "proxy/balance/ejection.rs",
    "proxy/balance/hash.rs",
    "proxy/balance/latency.rs",
    "proxy/balance/ramp.rs",
    "proxy/balance/rotation.rs",
    "proxy/balance/sticky.rs",
    "proxy/balance/two.rs",
    "proxy/probe/health.rs",
    "proxy/probe/pause.rs",
    "proxy/drain.rs",
    "proxy/ended.rs",
    "proxy/frames/ours.rs",
    "proxy/frames/pulse.rs",
    "proxy/frames/scan.rs",
    "proxy/headers.rs",
    "proxy/limits.rs",
    "proxy/names/known.rs",
    "proxy/pace.rs",
    "proxy/proxy_protocol.rs",
    "proxy/screen.rs",
    "proxy/tls/shown.rs",
    "proxy/tls/talk.rs",
    "proxy/http2/check.rs",
];

/// What a pure room may not name. `tokio::io` traits and plain types are no I/O by themselves; sockets and timers are.
const IMPURE: [&str; 14] = [
    "tokio::net",
    "tokio::time",
    "tokio::spawn",
    "tokio::task",
    "tokio::sync",
    "tokio::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "rand::",
    "thread::sleep",
];

#[test]
fn imports_go_down_only() {
    let root = workspace().join("node/src");
    let sources = product(&root);
    assert!(sources.len() > 5, "the node's sources are in {}", root.display());
    let mut climbs = Vec::new();
    for (path, code) in &sources {
        climbs.extend(climbs_in(path, code));
    }
    assert!(climbs.is_empty(), "imports that climb:\n{}", climbs.join("\n"));
}

#[test]
fn only_control_knows_openraft() {
    for (path, code) in product(&workspace().join("node/src")) {
        let inside = path.starts_with("control/") || path == "control.rs";
        assert!(inside || !names(&code, "openraft::"), "node/src/{path} uses openraft: ask control instead");
    }
}

#[test]
fn tandemctl_knows_the_protocol_and_not_the_node() {
    let manifest: toml::Table = fs::read_to_string(workspace().join("ctl/Cargo.toml")).unwrap().parse().unwrap();
    let ours: Vec<&String> =
        manifest["dependencies"].as_table().unwrap().keys().filter(|k| k.starts_with("tandem-")).collect();
    assert_eq!(ours, ["tandem-proto"]);
}

#[test]
fn pure_rooms_take_time_and_chance_as_arguments() {
    let sources = product(&workspace().join("node/src"));
    for pure in PURE {
        let (path, code) = sources.iter().find(|(path, _)| path == pure).expect("a room that is named is there");
        for word in IMPURE {
            assert!(!names(code, word), "node/src/{path} is a pure room and names {word}: make it an argument");
        }
    }
}

#[test]
fn the_reader_sees_a_climb() {
    let climb =
        "use crate::control::{Standing, State};\nuse crate::{config, vip::Keeper};\nfn f() { crate::admin::g(); }";
    assert_eq!(imports(climb), ["control", "config", "vip", "admin"]);
    assert_eq!(climbs_in("proxy/relay.rs", climb).len(), 3, "a stranger, a neighbour, and one above");
    assert_eq!(climbs_in("node.rs", climb), Vec::<String>::new());
    assert_eq!(climbs_in("proxy/relay.rs", "use super::super::vip;").len(), 1, "the stairs outside are watched too");
    assert_eq!(climbs_in("proxy/relay.rs", "use crate::proxy::route; // crate::admin"), Vec::<String>::new());
    let tested =
        "fn f() {}\n#[cfg(test)]\nmod tests { use crate::demo::echo; fn g() { if true {} } }\nuse crate::node;";
    assert_eq!(imports(&without_tests(tested)), ["node"], "tests may borrow from any floor");
}

/// The product's sources under `root`: relative path and code, without comments and tests.
fn product(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(root, &mut files);
    files.sort();
    let mut test_only = Vec::new();
    for file in &files {
        let code = without_comments(&fs::read_to_string(file).unwrap());
        for name in test_modules(&code) {
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            let parent = file.parent().unwrap();
            let dir = if ["mod", "lib", "main"].contains(&stem.as_str()) { parent.into() } else { parent.join(stem) };
            test_only.push(dir.join(name));
        }
    }
    files
        .into_iter()
        .filter(|f| !test_only.iter().any(|t| f.with_extension("") == *t || f.starts_with(t)))
        .map(|f| {
            let code = without_tests(&without_comments(&fs::read_to_string(&f).unwrap()));
            (f.strip_prefix(root).unwrap().to_string_lossy().into_owned(), code)
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn climbs_in(path: &str, code: &str) -> Vec<String> {
    let room = path.split(['/', '.']).next().unwrap();
    // The library's door names every room, and imports none.
    if room == "lib" {
        return Vec::new();
    }
    let floor = |room: &str| FLOORS.iter().find(|(r, _)| *r == room).map(|(_, f)| *f);
    let Some(here) = floor(room) else { return vec![format!("node/src/{path}: a room without a floor")] };
    let depth = path.trim_end_matches("/mod.rs").matches('/').count() + 1;
    let outside = supers(&without_comments(code), depth);
    imports(&without_comments(code))
        .into_iter()
        .chain(outside)
        .filter(|used| used != room)
        .filter(|used| floor(used).is_some_and(|f| f >= here) || STRANGERS.contains(&(room, used)))
        .map(|used| format!("node/src/{path} (floor {here}) uses crate::{used}"))
        .collect()
}

/// Every top name after `crate::`, in order.
fn imports(code: &str) -> Vec<String> {
    code.split("crate::").skip(1).flat_map(top_names).collect()
}

/// Every name reached through enough `super::` to be outside.
fn supers(code: &str, depth: usize) -> Vec<String> {
    let stairs = "super::".repeat(depth);
    code.split(&stairs).skip(1).flat_map(top_names).collect()
}

fn top_names(rest: &str) -> Vec<String> {
    let word =
        |s: &str| -> String { s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut names, mut start) = (1, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if (c == ',' && depth == 1) || depth == 0 {
            names.push(word(&group[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn without_comments(code: &str) -> String {
    code.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect::<Vec<_>>().join("\n")
}

/// Names of `#[cfg(test)] mod name;`.
fn test_modules(code: &str) -> Vec<String> {
    code.split("#[cfg(test)]")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix("mod ")?.split_once(';'))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .collect()
}

/// Leaves out each item under `#[cfg(test)]`: up to its semicolon, or to the brace that closes it.
fn without_tests(code: &str) -> String {
    let mut parts = code.split("#[cfg(test)]");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut depth = 0;
        let end = part.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && matches!(c, '}' | ';')
        });
        kept.push_str(end.map_or("", |(at, _)| &part[at + 1..]));
    }
    kept
}
