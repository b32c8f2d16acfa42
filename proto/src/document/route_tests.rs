//! Everything a route can say, read, written, and refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

/// As `config show` writes it.
const WHOLE: &str = r#"[listeners.web]
address = "10.0.0.100:80"

[routes.chat]
host = "*.example.org"
path_regex = "/ws/.*"
listeners = ["web"]
methods = ["GET", "PUT"]
headers = ["!x-a", "x-b", "x-c: 1", "x-d ~ [0-9]+"]
query = ["q=1"]
protocols = ["mqtt"]
websocket = "only"
origins = ["same-host", "https://*.example.org"]
origin_required = true
upstream = "u"

[routes.chat.rewrite]
regex = "/ws/(.*)"
to = "/{1}"
host = "{backend}"

[routes.chat.request_headers]
remove = ["x-a"]
set = ["x-b: {client_ip}"]
add = ["x-c: {{}}"]

[routes.chat.response_headers]
set = ["x-r: {route}"]

[routes.chat.frames]
ping = "client"
ping_interval = "10s"
pong_timeout = "5s"
max_frame = 65536
max_message = 1048576
messages_per_second = 100
bytes_per_second = 1000000
over_rate = "close"
max_age = "12h"

[routes.gone]
host = "*"
path_exact = "/gone"

[routes.gone.respond]
status = 410
content_type = "text/plain; charset=utf-8"
body = "gone"

[routes.old]
host = "old.example.org"
path = "/"

[routes.old.redirect]
to = "https://{host}{path}{query}"
status = 308

[upstreams.u]
"#;

fn meant(text: &str) -> Config {
    Config::try_from(&parse(text).unwrap_or_else(|p| panic!("{p}"))).unwrap()
}

#[test]
fn all_of_it_survives_both_forms() {
    let config = meant(WHOLE);
    let text = render(&config);
    assert_eq!(meant(&text), config, "{text}");
    assert_eq!(Config::try_from(&pb::Config::from(&config)).unwrap(), config);
    let routes = |text: &str| text[text.find("[routes.chat]").unwrap()..text.find("[upstreams.u").unwrap()].to_owned();
    assert_eq!(routes(&text), routes(WHOLE));
}

#[test]
fn what_cannot_be_is_told_whole() {
    let bad = r#"
        upstreams.u = {}
        [routes.a]
        path = "/x"
        path_exact = "/y"
        methods = ["get"]
        headers = ["x y: 1", "x ~ ("]
        query = ["=1"]
        protocols = ["a b"]
        listeners = ["nowhere", "No"]
        origins = ["example.org/x"]
        websocket = "sometimes"
        upstream = "u"
        redirect.to = "ftp://x"
        [routes.b]
        path_regex = "/(a"
        redirect = { to = "//{hots}", status = 304 }
        rewrite.strip_prefix = "/x"
        [routes.c]
        path_exact = "/c"
        upstream = "u"
        rewrite = { replace_prefix = "/d", strip_prefix = "e", to = "/f", host = "a b" }
        [routes.d]
        upstream = "u"
        rewrite = { regex = "/(x)", to = "/{2}" }
        [routes.d.request_headers]
        remove = ["Connection"]
        set = ["Host: x", "Sec-WebSocket-Key: x", "x-a: {nobody}", "x-a", "x-a: a\rb"]
        add = ["Transfer-Encoding: chunked", "Content-Length: 1", "x-a: {"]
        [routes.d.frames]
        ping = "sometimes"
        ping_interval = "10ms"
        pong_timeout = "never"
        max_frame = 124
        max_message = -1
        max_age = "1ms"
        over_rate = "maybe"
        [routes.e]
        respond = { status = 101, content_type = "a\nb" }
        [routes.f]
        respond = { status = 204, body = "x" }
        [routes.g]
        respond = { status = 404 }
        frames = {}
    "#;
    let said = parse(bad).unwrap_err().to_string();
    for place in [
        "routes.a: has more than one of path, path_exact and path_regex",
        "routes.a.methods[0] = \"get\": is no method",
        "routes.a.headers[0] = \"x y: 1\": does not begin with a name",
        "routes.a.headers[1] = \"(\": is no pattern: unclosed group",
        "routes.a.query[0] = \"=1\"",
        "routes.a.protocols[0] = \"a b\"",
        "routes.a.listeners[1] = \"No\": is no name",
        "routes.a.origins[0] = \"example.org/x\": is no origin",
        "routes.a.websocket = \"sometimes\"",
        "routes.a.redirect.to = \"ftp://x\": is neither an http URL nor a path",
        "routes.b.path_regex = \"/(a\": is no pattern: unclosed group",
        "routes.b.redirect.to = \"//{hots}\": speaks of {hots}",
        "routes.b.redirect.status = \"304\"",
        "routes.c.rewrite: has more than one of",
        "routes.c.rewrite.replace_prefix = \"/d\"",
        "routes.c.rewrite.strip_prefix = \"e\": is no path prefix",
        "routes.c.rewrite.host = \"a b\"",
        "routes.d.rewrite.to = \"/{2}\": speaks of {2}",
        "routes.d.request_headers.remove[0] = \"Connection\": touches connection",
        "routes.d.request_headers.set[0] = \"Host: x\": touches host, which says what the message is; use rewrite.host",
        "routes.d.request_headers.set[1] = \"Sec-WebSocket-Key: x\": touches sec-websocket-key",
        "routes.d.request_headers.set[2] = \"x-a: {nobody}\": speaks of {nobody}",
        "routes.d.request_headers.set[3] = \"x-a\": has no colon",
        "routes.d.request_headers.set[4]",
        "routes.d.request_headers.add[0] = \"Transfer-Encoding: chunked\": touches transfer-encoding",
        "routes.d.request_headers.add[1] = \"Content-Length: 1\": touches content-length",
        "routes.d.request_headers.add[2] = \"x-a: {\": opens a brace",
        "routes.d.frames.ping = \"sometimes\": is not known here; use one of: both, client, backend, off",
        "routes.d.frames.ping_interval = \"10ms\": is too short",
        "routes.d.frames.pong_timeout = \"never\": is not a length of time",
        "routes.d.frames.max_frame = \"124\": is less than a control frame may have; use 125 bytes or more",
        "routes.d.frames.max_message = \"-1\": is out of range",
        "routes.d.frames.max_age = \"1ms\": is too short",
        "routes.d.frames.over_rate = \"maybe\": is not known here; use one of: delay, close",
        "routes.g.frames: looks after sessions, and the route opens none",
        "routes.e.respond.status = \"101\"",
        "routes.e.respond.content_type",
        "routes.f.respond.body: cannot be sent with 204",
    ] {
        assert!(said.contains(place), "{place} in\n{said}");
    }
    let large = format!("routes.a.respond = {{ status = 200, body = \"{}\" }}", "x".repeat(16 * 1024 + 1));
    assert!(parse(&large).unwrap_err().to_string().contains("16385 bytes long"));
    let both = "upstreams.u = {}\nroutes.a = { upstream = \"u\", redirect = { to = \"/\" } }";
    assert!(parse(both).unwrap_err().to_string().contains("more than one of upstream, redirect and respond"));
    let idle = "routes.a = { redirect = { to = \"/\" }, rewrite = { strip_prefix = \"/x\" } }";
    assert!(parse(idle).unwrap_err().to_string().contains("routes.a.rewrite: changes what a backend is asked"));
    let lost = "routes.a = { listeners = [\"web\"], redirect = { to = \"/\" } }";
    assert!(parse(lost).unwrap_err().to_string().contains("routes.a.listeners = \"web\": is no listener here"));
}

#[test]
fn frames_are_looked_after_as_usual_unless_told_otherwise() {
    let text = "[routes.a]\nhost = \"*\"\npath = \"/\"\nupstream = \"u\"\n\n[routes.a.frames]\n\n[upstreams.u]\n";
    let config = meant(text);
    let frames = config.routes["a"].frames.clone().unwrap();
    assert_eq!(*frames, model::Frames::default());
    let rendered = render(&config);
    let shown = rendered.split("[upstreams.u]").next().unwrap();
    assert_eq!(
        shown,
        text.split("[upstreams.u]").next().unwrap(),
        "what is as usual is not written, but that they are looked after is"
    );
    assert_eq!(Config::try_from(&pb::Config::from(&config)).unwrap(), config);
}
