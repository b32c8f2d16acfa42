//! Sessions that have spoken once and say nothing more.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::dial::Dial;
use super::echo::Session;
use super::order::{Figure, Figures, Order};
use crate::meter::Meter;

/// Opened at once: a client each, as after a failover, without overrunning anybody's accept queue.
const AT_ONCE: usize = 64;
/// Payload of the one message.
const BYTES: usize = 125;
/// How long memory is given to settle.
const SETTLING: Duration = Duration::from_millis(1_500);

/// Opens them; they last as long as what is returned. Must be called inside a `LocalSet`.
///
/// # Errors
/// One does not open, or does not echo.
pub(super) async fn hold(order: &Order, sessions: usize) -> anyhow::Result<Vec<Session>> {
    let mut opening = JoinSet::new();
    let mut held = Vec::with_capacity(sessions);
    for worker in 0..AT_ONCE.min(sessions) {
        let mut dial = Dial::new(order)?;
        opening.spawn_local(async move {
            let mut mine = Vec::new();
            for seed in (worker..sessions).step_by(AT_ONCE) {
                let mut session = Session::open(&mut dial, BYTES, seed as u64).await?;
                session.echo().await?;
                mine.push(session);
            }
            anyhow::Ok(mine)
        });
    }
    while let Some(opened) = opening.join_next().await {
        held.extend(opened??);
    }
    ensure!(held.len() == sessions, "{} of {sessions} sessions opened", held.len());
    Ok(held)
}

/// What one more session costs the proxy, in bytes. What the first session ever costs is not counted.
///
/// # Errors
/// As for [`hold`]; there is nobody to meter; or a session did not last.
pub(super) async fn weigh(order: &Order, sessions: usize) -> anyhow::Result<Figures> {
    let root = order.metered.context("memory of nobody was ordered")?;
    drop(hold(order, 1).await?);
    sleep(SETTLING).await;
    let before = Meter::new(root).memory()?;
    let mut held = hold(order, sessions).await?;
    sleep(SETTLING).await;
    let after = Meter::new(root).memory()?;
    for session in &mut held {
        session.echo().await.context("a session did not outlast its idleness")?;
    }
    let bytes = after.saturating_sub(before) as f64 / sessions as f64;
    Ok(Figures::from([(Figure::SessionBytes, bytes)]))
}
