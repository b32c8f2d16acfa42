//! A witness that leads hands on at once: it may win an election (it may have the newest entry), it never keeps it.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::handle::Control;
use super::standing::{Member, NodeId, Role, Standing};

/// How long one proxy gets to take over before the next is asked.
const PATIENCE: Duration = Duration::from_millis(500);

/// Runs on a witness for its whole life.
pub(super) async fn hand_on(control: Control) {
    let mut standing = control.standing();
    let mut turn = 0;
    loop {
        if standing.wait_for(|s| s.leader == Some(s.me) && s.caught_up && s.fatal.is_none()).await.is_err() {
            return;
        }
        let proxies = ranked(&control);
        if proxies.is_empty() {
            tokio::time::sleep(PATIENCE).await;
            continue;
        }
        let next = &proxies[turn % proxies.len()];
        tracing::info!(to = %next.name, "this witness was elected: handing leadership on");
        turn = match control.transfer(next.id, PATIENCE).await {
            Ok(()) => 0,
            Err(e) => {
                tracing::warn!(to = %next.name, "{e}; trying the next proxy");
                turn + 1
            }
        };
    }
}

/// The proxies among the voters, the one with the longest log first: it can take over at once.
pub fn ranked(control: &Control) -> Vec<Member> {
    let replication = control.raft.as_ref().and_then(|raft| raft.metrics().borrow_watched().replication.clone());
    let matched = |id: NodeId| replication.as_ref().and_then(|r| r.get(&id)?.as_ref().map(|log| log.index));
    let here: Standing = control.here();
    let proxy = |m: &&Member| m.role == Role::Proxy && m.id != here.me && here.voters.contains(&m.id);
    let mut proxies: Vec<Member> = here.members.values().filter(proxy).cloned().collect();
    proxies.sort_by_key(|m| std::cmp::Reverse(matched(m.id)));
    proxies
}
