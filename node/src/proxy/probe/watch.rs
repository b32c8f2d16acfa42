//! Checks one backend again and again: at its interval, and at once when a session could not reach it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::super::backend::Backend;
use super::super::dialing::Dialing;
use super::error::Error;
use super::health::Health;
use super::look::look;
use super::pause::pause;
use crate::config::model::{Check, CheckKind};

/// The least time from one check to the next, however many sessions doubt the backend.
const LEAST: Duration = Duration::from_millis(50);

/// What a probe is told.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Told {
    pub(in crate::proxy) check: Check,
    /// How the backend is connected to: a check goes the way of clients.
    pub(in crate::proxy) dialing: Arc<Dialing>,
    /// What the config calls the backend, if it is a name.
    pub(in crate::proxy) host: Option<Arc<str>>,
}

/// Checks until the sender of `told` is dropped.
pub(in crate::proxy) async fn watch_over(backend: Arc<Backend>, mut told: watch::Receiver<Told>) {
    let mut health = Health::default();
    backend.set_up(true);
    loop {
        let now = told.borrow_and_update().clone();
        let check = &now.check;
        if check.kind == CheckKind::None {
            health = Health::default();
            backend.set_up(true);
            if told.changed().await.is_err() {
                return;
            }
            continue;
        }
        let began = Instant::now();
        let result = tokio::select! {
            result = look(backend.address, &now) => result,
            changed = told.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if let Some(lack) = result.as_ref().err().and_then(Error::shortage) {
            // Not its fault, and no verdict: else a node short of files would find every backend down.
            tracing::warn!(upstream = %backend.upstream, backend = %backend.address, reason = %lack, "cannot check");
            tokio::time::sleep(LEAST).await;
            continue;
        }
        let as_clients_do = check.port.is_none() && !matches!(check.kind, CheckKind::None | CheckKind::Tcp);
        if as_clients_do && result.is_ok() {
            backend.reached();
        }
        let was_up = health.is_up();
        health = health.after(result.is_ok(), check.rise, check.fall);
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
        let next = began + pause(check.interval, check.jitter, rand::random());
        let doubted = async {
            tokio::time::sleep_until(began + LEAST).await;
            backend.doubted().await;
        };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = doubted => {}
            changed = told.changed() => if changed.is_err() { return },
        }
    }
}
