//! The provider `linux`: addresses on an interface, guarded, announced and listened for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use super::Error;
use super::ears::Ears;
use super::guarded::Guarded;
use super::hands::Hands;
use super::happenings::{Happening, Happenings};
use super::lease::{Action, News};

/// All it takes.
#[derive(Debug)]
pub(super) struct Linux {
    guarded: Guarded,
    ears: Ears,
    happenings: Happenings,
    /// Was taken off, by us or by others: to be looked at.
    removed: Option<IpAddr>,
}

impl Linux {
    /// Opens the interface and starts the guard.
    ///
    /// # Errors
    /// Whatever would make the first claim fail.
    pub(super) async fn open(interface: &str) -> Result<Self, Error> {
        let guarded = Guarded::open(interface).await?;
        Ok(Self { guarded, ears: Ears::default(), happenings: Happenings::open()?, removed: None })
    }

    #[cfg(test)]
    pub(super) fn interface(&self) -> &super::netlink::Interface {
        self.guarded.interface()
    }

    /// That nobody can be heard is no reason to hold nothing.
    fn listen(&mut self, address: IpAddr) {
        if let Err(why) = self.ears.open(self.guarded.interface().ifindex(), address) {
            tracing::warn!("nobody is heard who has {address} too: {why}");
        }
    }
}

impl Hands for Linux {
    fn fence(&mut self, address: IpAddr, until: Instant) {
        self.guarded.fence(address, until);
    }

    async fn act(&mut self, action: &Action) -> Result<(), Error> {
        self.guarded.interface_mut().mend()?;
        match action {
            Action::Probe(address) => {
                self.guarded.interface_mut().look().await?;
                self.listen(*address);
                self.guarded.interface().probe(*address)
            }
            Action::Add(address) => {
                self.guarded.add(*address).await?;
                self.listen(*address);
                Ok(())
            }
            Action::Renew(address) => self.guarded.renew(*address).await,
            Action::Remove(address, _) => {
                self.guarded.remove(*address).await?;
                self.ears.close(*address);
                Ok(())
            }
            Action::Announce(address) => self.guarded.interface_mut().announce(*address).await,
            Action::Wait(_) => Ok(()),
        }
    }

    async fn clear_leftovers(&self, addresses: &BTreeSet<IpAddr>) {
        let interface = self.guarded.interface();
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

    async fn news(&mut self) -> News {
        loop {
            if let Some(address) = self.removed {
                let there = self.guarded.interface().has(address).await;
                // Not before, or it would be lost if this is dropped meanwhile.
                self.removed = None;
                // It may have been we, who have put it back since.
                if !there {
                    return News::Gone(address);
                }
            }
            let interface = self.guarded.interface();
            let (index, me) = (interface.index(), interface.mac());
            let happening = tokio::select! {
                () = self.guarded.watch() => return News::Guard,
                (address, mac) = self.ears.next(me) => return News::Rival(address, mac),
                happening = self.happenings.next(index) => happening,
            };
            match happening {
                Happening::Carries => return News::Carries,
                Happening::Removed(address) => self.removed = Some(address),
            }
        }
    }

    fn trouble(&self) -> Option<String> {
        self.guarded.trouble()
    }
}
