//! The ways an address can be on this machine, behind one seam.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;

use super::Error;
use super::lease::Action;
use super::netlink::Interface;
use crate::config::Provider;

/// What puts addresses on a machine and takes them off. [`Provided`] is what operators choose from; a simulation has its own.
pub trait Hands {
    /// Does it; returns when it is done, or known not to be.
    ///
    /// # Errors
    /// What went wrong, and who mends it.
    fn act(&mut self, action: &Action) -> impl Future<Output = Result<(), Error>>;

    /// Takes off what an earlier run left of `addresses`; warns of what others put there.
    fn clear_leftovers(&self, addresses: &BTreeSet<IpAddr>) -> impl Future<Output = ()>;
}

/// A provider at work.
#[derive(Debug)]
pub(super) enum Provided {
    Linux(Box<Interface>),
    /// Publishing what is held is all there is to do.
    Idle,
}

impl Provided {
    /// Ready to act.
    ///
    /// # Errors
    /// Whatever would make the first claim fail.
    pub(super) async fn open(provider: &Provider) -> Result<Self, Error> {
        match provider {
            Provider::Linux { interface } => Ok(Self::Linux(Box::new(Interface::open(interface).await?))),
            Provider::Bind | Provider::None => Ok(Self::Idle),
        }
    }
}

impl Hands for Provided {
    async fn act(&mut self, action: &Action) -> Result<(), Error> {
        let Self::Linux(interface) = self else { return Ok(()) };
        interface.mend()?;
        match action {
            Action::Add(address) => interface.add(*address).await,
            Action::Renew(address) => interface.renew(*address).await,
            Action::Remove(address, _) => interface.remove(*address).await,
            Action::Announce(address) => interface.announce(*address).await,
            Action::Wait(_) => Ok(()),
        }
    }

    async fn clear_leftovers(&self, addresses: &BTreeSet<IpAddr>) {
        let Self::Linux(interface) = self else { return };
        match interface.clear_leftovers(addresses).await {
            Ok(for_good) => {
                for address in for_good {
                    tracing::warn!(
                        "{address} is on {name} for good, so this node answers for it at all times, beside its holder: take \
                     it off (`ip address del {address} dev {name}`) and out of this machine's network settings",
                        name = interface.name()
                    );
                }
            }
            Err(why) => tracing::warn!("cannot look for leftover virtual addresses: {why}"),
        }
    }
}
