//! An interface, and the guard of what is on it: nothing is put there that a guard has not heard of.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Error;
use super::guard::Guard;
use super::netlink::Interface;
use crate::control::now;

/// How long the guard may take to answer (usual: 0.05 ms); short, for a claim may be begun near the end of its lease.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long the first answer of a new guard may take: the program must be loaded.
const FIRST: Duration = Duration::from_secs(5);
/// A guard that is silent for so long is replaced.
const SILENT: Duration = Duration::from_millis(100);
/// A guard that cannot be started is tried again after this.
const START_AGAIN: Duration = Duration::from_secs(1);
/// Without an answering guard for so long, nothing is held any more.
const UNGUARDED: Duration = Duration::from_millis(500);

/// The two together.
#[derive(Debug)]
pub(super) struct Guarded {
    interface: Interface,
    /// `None` when it could not be started anew.
    guard: Option<Guard>,
    /// Until when each address may stay, as the guard was told.
    fences: BTreeMap<IpAddr, Instant>,
    silent: Option<Silence>,
    /// When one that could not be started is tried again, with nothing held that asks for it.
    start_at: Instant,
}

/// The guard has not answered, or not yet.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// No guard has, since then.
    since: Instant,
    /// This one is replaced.
    replace_at: Instant,
}

impl Guarded {
    /// Starts the guard and opens the interface.
    ///
    /// # Errors
    /// Whatever would make the first claim fail.
    pub(super) async fn open(interface: &str) -> Result<Self, Error> {
        // First, for it says best what right is missing.
        let interface = Interface::open(interface).await?;
        let mut guard = Guard::start()?;
        let powers = guard.confirm(FIRST).await?;
        tracing::info!(
            pid = guard.pid(),
            realtime = powers.realtime,
            memory_locked = powers.locked,
            spared_by_oom = powers.spared,
            "the guard of the virtual addresses is at work"
        );
        Ok(Self { interface, guard: Some(guard), fences: BTreeMap::new(), silent: None, start_at: now() })
    }

    /// The interface.
    pub(super) fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The interface, to be spoken with.
    pub(super) fn interface_mut(&mut self) -> &mut Interface {
        &mut self.interface
    }

    /// Until when the address may stay.
    pub(super) fn fence(&mut self, address: IpAddr, until: Instant) {
        if self.fences.insert(address, until) != Some(until)
            && let Some(guard) = &self.guard
        {
            guard.hold(self.interface.index(), address, until);
        }
    }

    /// Puts the address on the interface.
    ///
    /// # Errors
    /// What the kernel says, or the guard; it may be there if that is in doubt.
    pub(super) async fn add(&mut self, address: IpAddr) -> Result<(), Error> {
        // The interface may have been made anew since, under another index.
        self.interface.look().await?;
        self.renew(address).await
    }

    /// Begins its kernel lifetime anew.
    ///
    /// # Errors
    /// As [`Guarded::add`].
    pub(super) async fn renew(&mut self, address: IpAddr) -> Result<(), Error> {
        self.vouch(address).await?;
        self.interface.put(address).await
    }

    /// Takes it off.
    ///
    /// # Errors
    /// What the kernel says; it may still be there, and stays in the guard's care.
    pub(super) async fn remove(&mut self, address: IpAddr) -> Result<(), Error> {
        self.interface.remove(address).await?;
        self.fences.remove(&address);
        if let Some(guard) = &self.guard {
            guard.forget(address);
        }
        Ok(())
    }

    /// Sees that the guard knows of the address and lives.
    async fn vouch(&mut self, address: IpAddr) -> Result<(), Error> {
        if self.guard.is_none() {
            self.replace()?;
        }
        let Some(guard) = &mut self.guard else { return Err(Error::Stopped) };
        if let Some(until) = self.fences.get(&address) {
            guard.hold(self.interface.index(), address, *until);
        }
        match guard.confirm(PATIENCE).await {
            Ok(_) => {
                self.silent = None;
                Ok(())
            }
            Err(why) => {
                let now = now();
                let silence = *self.silent.get_or_insert(Silence { since: now, replace_at: now + SILENT });
                if now >= silence.replace_at {
                    tracing::error!("the guard of the virtual addresses does not answer: another one is started");
                    self.replace()?;
                }
                // Refused, not in doubt: it must go.
                let long = now.saturating_duration_since(silence.since) >= UNGUARDED;
                Err(if long { Error::Unguarded { after: UNGUARDED } } else { why })
            }
        }
    }

    /// Another guard in place of one that is gone or silent; it is told all that the last one was.
    fn replace(&mut self) -> Result<(), Error> {
        if let Some(mut old) = self.guard.take() {
            old.kill();
        }
        self.start_at = now() + START_AGAIN;
        let guard = Guard::start()?;
        for (address, until) in &self.fences {
            guard.hold(self.interface.index(), *address, *until);
        }
        tracing::info!(pid = guard.pid(), "another guard of the virtual addresses is started");
        let now = now();
        let since = self.silent.map_or(now, |silence| silence.since);
        self.silent = Some(Silence { since, replace_at: now + FIRST });
        self.guard = Some(guard);
        Ok(())
    }

    /// Returns when the guard has become another, or has answered for the first time. May be dropped and called again.
    pub(super) async fn watch(&mut self) {
        let Some(guard) = &mut self.guard else {
            tokio::time::sleep_until(self.start_at.into()).await;
            if let Err(why) = self.replace() {
                tracing::error!("{why}");
            }
            return;
        };
        if self.silent.is_some() {
            // One that was just started, and nothing is asked of it otherwise.
            if guard.confirm(FIRST).await.is_ok() {
                self.silent = None;
                return;
            }
            // One that ends as soon as it starts must not be started all the time.
            tokio::time::sleep_until(self.start_at.into()).await;
        } else {
            guard.ended().await;
        }
        tracing::error!("the guard of the virtual addresses has ended: another one is started");
        if let Err(why) = self.replace() {
            tracing::error!("{why}");
        }
    }

    /// What is wrong with the guard; `None`: nothing.
    pub(super) fn trouble(&self) -> Option<String> {
        match (&self.guard, self.silent) {
            (None, _) => Some("the guard of its addresses cannot be started: it holds none; see its log".into()),
            (Some(_), Some(_)) => Some("the guard of its addresses is being replaced".into()),
            (Some(_), None) => None,
        }
    }
}
