//! What a check keeps, drops and refuses.
#![allow(clippy::unwrap_used)]

use super::*;

fn over(before: &Check, given: pb::Check) -> Result<Check, String> {
    let mut problems = Problems::default();
    let check = before.merged("check", Some(&given), &mut problems);
    problems.into_result().map(|()| check).map_err(|p| p.to_string())
}

fn http() -> Check {
    let given = pb::Check {
        kind: CheckKind::Http.into(),
        path: Some("/healthz?deep=1".into()),
        host: Some("chat.example.org".into()),
        statuses: vec!["200-299".into(), "404".into()],
        body: Some("ok".into()),
        port: Some(8081),
        jitter_percent: Some(0),
        ..Default::default()
    };
    over(&Check::default(), given).unwrap()
}

#[test]
fn what_is_not_named_stays_and_what_is_empty_is_cleared() {
    let check = over(&http(), pb::Check { fall: 5, ..Default::default() }).unwrap();
    assert_eq!(check, Check { fall: NonZeroU32::new(5).unwrap(), ..http() });
    let given = pb::Check { body: Some(String::new()), host: Some(String::new()), port: Some(0), ..Default::default() };
    assert_eq!(over(&http(), given).unwrap(), Check { body: None, host: None, port: None, ..http() });
}

#[test]
fn another_kind_keeps_what_it_uses_and_drops_the_rest() {
    let check = over(&http(), pb::Check { kind: CheckKind::Websocket.into(), ..Default::default() }).unwrap();
    let expected = Check { kind: CheckKind::Websocket, statuses: Statuses::default(), body: None, ..http() };
    assert_eq!(check, expected);
    let tcp = over(&http(), pb::Check { kind: CheckKind::Tcp.into(), ..Default::default() }).unwrap();
    assert_eq!((tcp.path.as_str(), tcp.host, tcp.port), ("/", None, http().port));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let kind = CheckKind::Http.into();
    let cases = [
        pb::Check { path: Some("/healthz".into()), ..Default::default() },
        pb::Check { kind, path: Some("healthz".into()), ..Default::default() },
        pb::Check { kind, path: Some("/<room>".into()), ..Default::default() },
        pb::Check { kind, host: Some("http://x/".into()), ..Default::default() },
        pb::Check { kind, statuses: vec!["2xx".into()], ..Default::default() },
        pb::Check { kind, method: CheckMethod::Head.into(), body: Some("ok".into()), ..Default::default() },
        pb::Check { kind, echo: Some("hello".into()), ..Default::default() },
        pb::Check { kind, body: Some("x".repeat(1025)), ..Default::default() },
        pb::Check { kind: CheckKind::Websocket.into(), subprotocol: Some("a, b".into()), ..Default::default() },
        pb::Check { port: Some(65536), jitter_percent: Some(51), ..Default::default() },
    ];
    let said: Vec<String> = cases.into_iter().map(|c| over(&Check::default(), c).unwrap_err()).collect();
    let long = "x".repeat(1025);
    let expected = format!(
        r#"check.path = "/healthz": is not used by this kind of check; leave it out, or set check.kind
check.path = "healthz": is no path; begin with /, leave out #, and write blanks and other signs like %20
check.path = "/<room>": is no path; begin with /, leave out #, and write blanks and other signs like %20
check.host = "http://x/": cannot be sent; write the name alone, with a port if it needs one
check.statuses = "2xx": are no statuses; write them like "204" or ["200-299", "404"]
check.body = "ok": is never sent in answer to HEAD; use method GET, or leave the body out
check.echo = "hello": is not used by this kind of check; leave it out, or set check.kind
check.body = "{long}": is too long; use 1024 bytes or less
check.subprotocol = "a, b": cannot be sent; write one name, without blanks and commas
check.jitter = "51": is too much; use a percentage from 0 to 50
check.port = "65536": is no port; use a port from 1 to 65535"#
    );
    assert_eq!(said.join("\n"), expected);
}
