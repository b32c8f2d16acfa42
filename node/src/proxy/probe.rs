//! Checks one backend again and again: at its interval, and at once when a session could not reach it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::backend::{Backend, connect};
use super::health::Health;
use crate::config::model::{Check, CheckKind};

/// The least time from one check to the next, however many sessions doubt the backend.
const LEAST: Duration = Duration::from_millis(50);

/// Checks until the sender of `check` is dropped.
pub(super) async fn watch_over(backend: Arc<Backend>, mut check: watch::Receiver<Check>) {
    let mut health = Health::default();
    backend.set_up(true);
    loop {
        let now = check.borrow_and_update().clone();
        if now.kind == CheckKind::None {
            health = Health::default();
            backend.set_up(true);
            if check.changed().await.is_err() {
                return;
            }
            continue;
        }
        let began = Instant::now();
        let result = tokio::select! {
            result = connect(backend.address, now.timeout) => result,
            changed = check.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let was_up = health.is_up();
        health = health.after(result.is_ok(), now.rise, now.fall);
        backend.set_up(health.is_up());
        let (upstream, address) = (&backend.upstream, backend.address);
        if let Err(error) = result {
            backend.failed(format!("check: {error}"));
            if was_up && !health.is_up() {
                tracing::warn!(%upstream, backend = %address, %error, "backend is down");
            }
        } else if !was_up {
            tracing::info!(%upstream, backend = %address, "backend is up");
        }
        let doubted = async {
            tokio::time::sleep_until(began + LEAST).await;
            backend.doubted().await;
        };
        tokio::select! {
            () = tokio::time::sleep_until(began + now.interval) => {}
            () = doubted => {}
            changed = check.changed() => if changed.is_err() { return },
        }
    }
}
