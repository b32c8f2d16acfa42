//! The ways an address can be on this machine, behind one seam.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::time::Instant;

use super::Error;
use super::lease::{Action, News};
use super::linux::Linux;
use crate::config::Provider;

/// What puts addresses on a machine and takes them off. [`Provided`] is what operators choose from; a simulation has its own.
pub trait Hands {
    /// The address may stay until then, whatever becomes of this process. Said before it is added, and whenever the end
    /// moves; must not wait.
    fn fence(&mut self, address: IpAddr, until: Instant) {
        // Hands that go with the process have nobody to tell.
        let _ = (address, until);
    }

    /// Does it; returns when it is done, or known not to be.
    ///
    /// # Errors
    /// What went wrong, and who mends it.
    fn act(&mut self, action: &Action) -> impl Future<Output = Result<(), Error>>;

    /// Takes off what an earlier run left of `addresses`; warns of what others put there.
    fn clear_leftovers(&self, addresses: &BTreeSet<IpAddr>) -> impl Future<Output = ()>;

    /// What happens to the addresses without our doing. May be dropped and called again.
    fn news(&mut self) -> impl Future<Output = News> {
        std::future::pending()
    }

    /// What is wrong with them that an operator should know; `None`: nothing.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A provider at work.
#[derive(Debug)]
pub(super) enum Provided {
    Linux(Box<Linux>),
    /// Publishing what is held is all there is to do: what is bound ends with the process, so nothing needs a guard.
    Idle,
}

impl Provided {
    /// Ready to act.
    ///
    /// # Errors
    /// Whatever would make the first claim fail.
    pub(super) async fn open(provider: &Provider) -> Result<Self, Error> {
        match provider {
            Provider::Linux { interface } => Ok(Self::Linux(Box::new(Linux::open(interface).await?))),
            Provider::Bind | Provider::None => Ok(Self::Idle),
        }
    }
}

impl Hands for Provided {
    fn fence(&mut self, address: IpAddr, until: Instant) {
        if let Self::Linux(linux) = self {
            linux.fence(address, until);
        }
    }

    async fn act(&mut self, action: &Action) -> Result<(), Error> {
        match self {
            Self::Linux(linux) => linux.act(action).await,
            Self::Idle => Ok(()),
        }
    }

    async fn clear_leftovers(&self, addresses: &BTreeSet<IpAddr>) {
        if let Self::Linux(linux) = self {
            linux.clear_leftovers(addresses).await;
        }
    }

    async fn news(&mut self) -> News {
        match self {
            Self::Linux(linux) => linux.news().await,
            Self::Idle => std::future::pending().await,
        }
    }

    fn trouble(&self) -> Option<String> {
        match self {
            Self::Linux(linux) => linux.trouble(),
            Self::Idle => None,
        }
    }
}
