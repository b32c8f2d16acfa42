//! Keeps the newest snapshot recent: it is what a node serves whose store is damaged.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::raft::Raft;

/// How long nothing must have been applied: changes come in bursts, and one snapshot is enough for each.
const QUIET: Duration = Duration::from_secs(2);
/// How often in a burst that does not end.
const AGE: Duration = Duration::from_secs(30);

/// Takes a snapshot after each burst of changes, beside those that openraft takes by their number; ends with consensus.
pub(super) async fn keep(raft: Raft) {
    let metrics = raft.metrics();
    let (mut before, mut waited) = (None, Duration::ZERO);
    loop {
        tokio::time::sleep(QUIET).await;
        let (applied, covered) = {
            let now = metrics.borrow_watched();
            if now.running_state.is_err() {
                return;
            }
            (now.last_applied, now.snapshot)
        };
        waited = if applied > covered { waited + QUIET } else { Duration::ZERO };
        let quiet = before == applied;
        before = applied;
        if waited.is_zero() || !(quiet || waited >= AGE) {
            continue;
        }
        waited = Duration::ZERO;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
    }
}
