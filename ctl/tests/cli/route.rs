//! Routes: said with flags, changed over what is there, listed, and tried without sending anything.

use serde_json::json;
use tandem_proto::admin::v1::GetConfigReply;
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::document;

use crate::fake::{Node, Say, tandemctl};

async fn node(text: &str) -> Node {
    let node = Node::start([Say::Done(13, Vec::new())]).await;
    node.has(GetConfigReply { revision: 12, config: Some(document::parse(text).unwrap()), ..Default::default() });
    node
}

async fn shop() -> Node {
    node(
        r#"
        listeners.plain.address = "10.0.0.100:80"
        listeners.secure.address = "10.0.0.100:443"
        upstreams.chat = {}
        upstreams.shop = {}
        [routes.secure]
        listeners = ["plain"]
        redirect.to = "https://{host}{path}{query}"
        [routes.chat]
        host = "*.example.org"
        path = "/ws"
        headers = ["x-v: 2"]
        query = ["room"]
        websocket = "only"
        origins = ["https://example.org"]
        upstream = "chat"
        rewrite.strip_prefix = "/ws"
        response_headers.set = ["x-served-by: {route}"]
        [routes.stop]
        path_exact = "/stop"
        methods = ["PUT", "POST"]
        respond.status = 405
        [routes.shop]
        listeners = ["secure"]
        upstream = "shop"
    "#,
    )
    .await
}

/// What the node is asked to make of a route.
async fn edit(node: &Node, line: &str) -> (pb::Route, Option<u64>) {
    let ran = tandemctl(&[&node.address], line).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    let mut command = node.changes().pop().unwrap();
    match command.edits.remove(0).edit.unwrap() {
        Edit::AddRoute(route) | Edit::SetRoute(route) => (route, command.expect_revision),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_flag_says_its_field() {
    let node = shop().await;
    let line = "route add r --upstream chat --host *.a --path-regex /[ab] --listener plain --listener secure --method GET \
        --header x:1 --header !y --query q=1 --protocol mqtt --websocket never --origin same-host --origin-required \
        --rewrite-regex /(.*) --rewrite-to /v2/{1} --set-host {backend} --set-request-header a:1 --add-request-header b:2 \
        --remove-request-header c --set-response-header d:3 --add-response-header e:4 --remove-response-header f";
    let ops = |remove: &str, set: &str, add: &str| {
        Some(pb::HeaderOps { remove: vec![remove.into()], set: vec![set.into()], add: vec![add.into()] })
    };
    let expected = pb::Route {
        name: "r".into(),
        host: "*.a".into(),
        path_regex: "/[ab]".into(),
        upstream: "chat".into(),
        listeners: vec!["plain".into(), "secure".into()],
        methods: vec!["GET".into()],
        headers: vec!["x:1".into(), "!y".into()],
        query: vec!["q=1".into()],
        protocols: vec!["mqtt".into()],
        websocket: pb::WebSocketUse::Never.into(),
        origins: vec!["same-host".into()],
        origin_required: true,
        rewrite: Some(pb::Rewrite {
            regex: "/(.*)".into(),
            to: "/v2/{1}".into(),
            host: "{backend}".into(),
            ..Default::default()
        }),
        request_headers: ops("c", "a:1", "b:2"),
        response_headers: ops("f", "d:3", "e:4"),
        ..Default::default()
    };
    assert_eq!(edit(&node, line).await, (expected, None));

    let (route, _) = edit(&node, "route add r --redirect https://x{path} --redirect-status 302 --path-exact /x").await;
    assert_eq!(route.redirect, Some(pb::Redirect { to: "https://x{path}".into(), status: 302 }));
    assert_eq!((route.path.as_str(), route.path_exact.as_str()), ("", "/x"));
    let line = "route add r --upstream chat --ping client --ping-interval 10s --pong-timeout 5s --max-frame 1000 --max-message 2000 \
        --messages-per-second 10 --bytes-per-second 20 --over-rate close --max-age 12h";
    let expected = pb::Frames {
        ping: pb::PingTo::Client.into(),
        ping_interval_ms: 10_000,
        pong_timeout_ms: 5_000,
        max_frame: 1_000,
        max_message: 2_000,
        messages_per_second: 10,
        bytes_per_second: 20,
        over_rate: pb::OverRate::Close.into(),
        max_age_ms: 12 * 3_600_000,
    };
    assert_eq!(edit(&node, line).await.0.frames, Some(expected));
    assert_eq!(edit(&node, "route add r --upstream chat --frames").await.0.frames, Some(pb::Frames::default()));
    let (route, _) = edit(&node, "route add r --respond 404 --respond-body gone --respond-type text/html").await;
    let respond = pb::Respond { status: 404, content_type: "text/html".into(), body: "gone".into() };
    assert_eq!(route.respond, Some(respond));
}

#[tokio::test]
async fn a_set_keeps_what_it_does_not_name_and_undoes_no_other_change() {
    let node = shop().await;
    let (route, seen) = edit(&node, "route set chat --origin https://a.example --set-host b.example").await;
    assert_eq!(seen, Some(12), "refused if the route was changed meanwhile");
    assert_eq!((route.origins, route.upstream.as_str()), (vec!["https://a.example".to_owned()], "chat"));
    assert_eq!((route.headers, route.websocket), (vec!["x-v: 2".to_owned()], i32::from(pb::WebSocketUse::Only)));
    let rewrite = pb::Rewrite { strip_prefix: "/ws".into(), host: "b.example".into(), ..Default::default() };
    assert_eq!(route.rewrite, Some(rewrite));

    let line = "route set chat --respond 503 --path-exact /x --clear rewrite --clear origins --clear headers --clear websocket";
    let (route, _) = edit(&node, line).await;
    assert_eq!((route.upstream.as_str(), route.path.as_str(), route.path_exact.as_str()), ("", "", "/x"));
    assert_eq!((route.rewrite, route.origins.len(), route.headers.len(), route.websocket), (None, 0, 0, 0));
    assert_eq!(route.query, ["room"]);
}

#[tokio::test]
async fn a_set_of_frames_is_over_those_there_are() {
    let node = node(
        "upstreams.chat = {}\n[routes.a]\nupstream = \"chat\"\nframes = { ping = \"client\", max_age = \"1h\" }\n",
    )
    .await;
    let (route, seen) = edit(&node, "route set a --max-frame 1000 --max-age off").await;
    let frames = route.frames.unwrap();
    assert_eq!(seen, Some(12));
    assert_eq!((frames.ping, frames.max_frame, frames.max_age_ms), (pb::PingTo::Client.into(), 1_000, 0));
    let (route, _) = edit(&node, "route set a --clear frames").await;
    assert_eq!(route.frames, None);
    let ran = tandemctl(&[&node.address], "route ls").await;
    assert!(ran.out.contains("chat, frames\n"), "{}", ran.out);
}

#[tokio::test]
async fn a_set_that_says_nothing_new_or_of_nobody_is_refused_unsent() {
    let node = shop().await;
    for (line, word) in [
        ("route set chat --upstream chat", "routes.chat = \"chat\": is like that already"),
        (
            "route set nobody --upstream chat",
            "routes.nobody = \"nobody\": is not there; known: secure, chat, stop, shop",
        ),
        ("route set chat --upstream a --respond 404", "cannot be used with"),
        ("route set chat --path /a --path-exact /b", "cannot be used with"),
        ("route add x", "required"),
        ("route add x --upstream chat --rewrite-to /x", "--rewrite-regex"),
        ("route set chat --clear everything", "possible values"),
    ] {
        let ran = tandemctl(&[&node.address], line).await;
        assert_eq!(ran.code, 1, "{line}");
        assert!(ran.err.contains(word), "{line}: {}", ran.err);
    }
    assert!(node.changes().is_empty());
}

#[tokio::test]
async fn a_list_shows_what_routes_take_and_do() {
    let node = shop().await;
    let expected = "\
ROUTE   HOST           PATH     ALSO                              TO
chat    *.example.org  /ws      x-v: 2, ?room, websocket only     chat, without /ws, origins, headers
secure  *              /        on plain                          308 https://{host}{path}{query}
shop    *              /        on secure                         shop
stop    *              = /stop  POST|PUT                          answer 405
";
    let ran = tandemctl(&[&node.address], "route ls").await;
    let squeezed =
        |text: &str| text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&ran.out), squeezed(expected));
}

#[tokio::test]
async fn a_request_is_thought_through() {
    let node = shop().await;
    let ask = async |line: &str| {
        let ran = tandemctl(&[&node.address], line).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        ran.out
    };
    let out =
        ask("route test wss://a.example.org/ws/x?room=1 --listener secure -H x-v:2 -H origin:https://example.org")
            .await;
    let expected = "\
route chat takes it: chat, without /ws, origins, headers

ROUTE   HOST           PATH     VERDICT
chat    *.example.org  /ws      takes it
stop    *              = /stop  no: another path
secure  *              /        no: another listener
shop    *              /        comes later
";
    assert_eq!(out, expected);
    let out = ask("route test wss://a.example.org/ws?room --listener secure -H x-v:2 -H origin:https://evil").await;
    assert!(out.starts_with("route chat takes it, and refuses: 403, pages of \"https://evil\""), "{out}");
    let out = ask("route test http://a.example.org/ws?room --listener secure -H x-v:2").await;
    assert!(out.contains("no: websocket\n") && out.starts_with("route shop takes it: shop\n"), "{out}");
    let out = ask("route test ws://a.example.org/ws?room --listener plain").await;
    assert!(out.contains("no: header x-v: 2\n") && out.starts_with("route secure takes it: 308 https://"), "{out}");
    let out = ask("route test http://x/stop --listener secure --method PUT --json").await;
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&out["route"], &out["to"], &out["refused"]), (&json!("stop"), &json!("answer 405"), &json!(null)));
    assert!(node.changes().is_empty());

    let ran = tandemctl(&[&node.address], "route test example.org --method G@T -H nonsense").await;
    assert_eq!(ran.code, 1);
    for word in
        ["--listener: is missing", "known: plain, secure", "URL = ", "--method = \"G@T\"", "--header = \"nonsense\""]
    {
        assert!(ran.err.contains(word), "{word} in {}", ran.err);
    }
}
