//! Puts addresses on an interface and takes them off, through rtnetlink.
//!
//! The kernel works on a request while it is being sent, under one lock for all of a machine's network settings: another
//! process that holds this lock for long (a container engine tearing down networks, say) delays us, and no timeout of ours
//! can cut that short. What it delays is checked against the lease afterwards.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{AddressMessageBuilder, Handle};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Error;
use super::ethernet::{Mac, Mouth};
use super::lease::LIFETIME;

/// How long one request may take (usual: 0.08 ms). A claim makes two, asks its guard for up to 10 ms, and is begun with 20 ms
/// left before its fence or more; the margin behind the fence is 60 ms: even one that takes all of this is ended, and undone,
/// within the margin.
const PATIENCE: Duration = Duration::from_millis(20);
/// The kernel's word for "for good" in a lifetime, in place of seconds.
const FOR_GOOD: u32 = u32::MAX;

/// One interface and the connection to the kernel.
#[derive(Debug)]
pub(super) struct Interface {
    name: String,
    link: Link,
    kernel: Kernel,
    mouth: Mouth,
}

/// What an address is bound to; both may change under the same name.
#[derive(Debug, Clone, Copy)]
struct Link {
    index: u32,
    mac: Mac,
}

#[derive(Debug)]
struct Kernel {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Interface {
    /// Looks the interface up and tries every right that will be needed, so that a lack shows now and not at a failover.
    ///
    /// # Errors
    /// [`Error::NoInterface`], [`Error::NoEthernet`], [`Error::NoRight`], or what the kernel says.
    pub(super) async fn open(name: &str) -> Result<Self, Error> {
        let kernel = Kernel::connect()?;
        let link = kernel.link(name).await?;
        let mouth = Mouth::open()?;
        let interface = Self { name: name.to_owned(), link, kernel, mouth };
        // Nobody has this address; without CAP_NET_ADMIN the answer is EPERM before the kernel looks.
        interface.remove(IpAddr::from([0, 0, 0, 0])).await?;
        Ok(interface)
    }

    /// The interface's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its number, as it was last seen.
    pub(super) fn index(&self) -> u32 {
        self.link.index
    }

    /// The same number, as sockets have it.
    pub(super) fn ifindex(&self) -> i32 {
        i32::try_from(self.link.index).expect("the kernel's indices are positive ints")
    }

    /// Its Ethernet address, as it was last seen.
    pub(super) fn mac(&self) -> Mac {
        self.link.mac
    }

    /// Looks it up anew: it may have been made again, under another index, or have another Ethernet address.
    ///
    /// # Errors
    /// [`Error::NoInterface`], [`Error::NoEthernet`], or what the kernel says.
    pub(super) async fn look(&mut self) -> Result<(), Error> {
        self.link = self.kernel.link(&self.name).await?;
        Ok(())
    }

    /// Adds the address as /32 (/128) with the kernel lifetime, or begins its lifetime anew.
    ///
    /// # Errors
    /// What the kernel says; after [`Error::Unanswered`] the address may be there.
    pub(super) async fn put(&self, address: IpAddr) -> Result<(), Error> {
        const WHAT: &str = "put an address on an interface";
        let mut request = self.kernel.handle.address().add(self.link.index, address, full_prefix(address)).replace();
        let mut flags = AddressFlags::Noprefixroute;
        if address.is_ipv6() {
            // Duplicate address detection would keep it unusable for 1-2 s; that it is free is what the lease proves.
            flags |= AddressFlags::Nodad;
        }
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(lifetime()));
        attributes.push(AddressAttribute::Flags(flags));
        self.kernel.within_patience(WHAT, request.execute()).await.map_err(|failure| self.explain(WHAT, failure))
    }

    /// Takes the address off. That it is not there (or the interface neither) is as good.
    ///
    /// # Errors
    /// What the kernel says; it may still be there then.
    pub(super) async fn remove(&self, address: IpAddr) -> Result<(), Error> {
        const WHAT: &str = "take an address off an interface";
        let request = self.kernel.handle.address().del(message(self.link.index, address));
        match self.kernel.within_patience(WHAT, request.execute()).await {
            Err(Failure::Kernel(source)) if is_gone(&source) => Ok(()),
            other => other.map_err(|failure| self.explain(WHAT, failure)),
        }
    }

    /// Tells the neighbours where the address is.
    ///
    /// # Errors
    /// What the kernel says, e.g. that the interface is down.
    pub(super) async fn announce(&mut self, address: IpAddr) -> Result<(), Error> {
        // A bond may have changed its Ethernet address.
        self.look().await?;
        let what = "send an announcement";
        self.mouth.announce(self.ifindex(), self.mac(), address).map_err(|source| Error::Refused { what, source })
    }

    /// Asks who has the address.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn probe(&self, address: IpAddr) -> Result<(), Error> {
        let what = "ask who has an address";
        self.mouth.probe(self.ifindex(), self.mac(), address).map_err(|source| Error::Refused { what, source })
    }

    /// Whether the address is on it; if the kernel does not say, it is taken to be.
    pub(super) async fn has(&self, address: IpAddr) -> bool {
        self.listed().await.map_or(true, |all| all.iter().any(|found| local(found) == Some(address)))
    }

    /// Takes off those of `addresses` that an earlier run left, and returns those that are there for good: they are
    /// someone else's doing, and not ours to touch.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) async fn clear_leftovers(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, Error> {
        let mut for_good = BTreeSet::new();
        for found in self.listed().await? {
            let Some(address) = virtual_address(&found).filter(|address| addresses.contains(address)) else { continue };
            if has_lifetime(&found) {
                tracing::info!("taking {address} off {}: an earlier run left it there", self.name);
                self.remove(address).await?;
            } else {
                for_good.insert(address);
            }
        }
        Ok(for_good)
    }

    async fn listed(&self) -> Result<Vec<AddressMessage>, Error> {
        const WHAT: &str = "list the addresses of an interface";
        let listing = self.kernel.handle.address().get().set_link_index_filter(self.link.index).execute();
        let listed = self.kernel.within_patience(WHAT, listing.try_collect()).await;
        listed.map_err(|failure| self.explain(WHAT, failure))
    }

    /// Connects anew if the connection to the kernel has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn mend(&mut self) -> Result<(), Error> {
        if self.kernel.connection.is_finished() {
            self.kernel = Kernel::connect()?;
        }
        Ok(())
    }

    fn explain(&self, what: &'static str, failure: Failure) -> Error {
        failure.explain(what, &self.name)
    }
}

impl Kernel {
    fn connect() -> Result<Self, Error> {
        let what = "open a netlink socket";
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| Error::Refused { what, source })?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    async fn link(&self, name: &str) -> Result<Link, Error> {
        const WHAT: &str = "look up an interface";
        let links = self.handle.link().get().match_name(name).execute();
        let found: Vec<_> =
            self.within_patience(WHAT, links.try_collect()).await.map_err(|failure| failure.explain(WHAT, name))?;
        let link = found.first().ok_or_else(|| Error::NoInterface { name: name.to_owned() })?;
        let mac = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => Mac::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        let mac = mac.ok_or_else(|| Error::NoEthernet { name: name.to_owned() })?;
        Ok(Link { index: link.header.index, mac })
    }

    async fn within_patience<T>(
        &self,
        what: &'static str,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, Failure> {
        let answer = timeout(PATIENCE, request).await;
        // A connection that ends leaves its requests with an end of answers, which looks like success.
        if self.connection.is_finished() {
            tracing::warn!("the connection to the kernel ended while asked to {what}");
            return Err(Failure::Unanswered);
        }
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(Failure::Kernel(message.to_io())),
            Ok(Err(other)) => Err(Failure::Kernel(io::Error::other(other))),
            Err(_) => Err(Failure::Unanswered),
        }
    }
}

/// How a request failed, before it has a context.
#[derive(Debug)]
enum Failure {
    Kernel(io::Error),
    Unanswered,
}

impl Failure {
    fn explain(self, what: &'static str, interface: &str) -> Error {
        match self {
            Self::Unanswered => Error::Unanswered { what, after: PATIENCE },
            Self::Kernel(source) => match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => Error::NoRight { what },
                Some(libc::ENODEV) => Error::NoInterface { name: interface.to_owned() },
                _ => Error::Refused { what, source },
            },
        }
    }
}

fn is_gone(source: &io::Error) -> bool {
    matches!(source.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENOENT))
}

/// A virtual address is always alone in its prefix: one that shares a subnet with another of the interface becomes
/// "secondary" and vanishes with it.
fn full_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn lifetime() -> CacheInfo {
    let seconds = u32::try_from(LIFETIME.as_secs()).expect("a few seconds");
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = seconds;
    lifetime.ifa_preferred = seconds;
    lifetime
}

fn message(index: u32, address: IpAddr) -> AddressMessage {
    match address {
        IpAddr::V4(v4) => AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(index).address(v4, 32).build(),
        IpAddr::V6(v6) => AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(index).address(v6, 128).build(),
    }
}

/// The address that the kernel speaks of.
pub(super) fn local(found: &AddressMessage) -> Option<IpAddr> {
    found.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

/// The same, if it stands alone in its prefix.
fn virtual_address(found: &AddressMessage) -> Option<IpAddr> {
    let address = local(found)?;
    (found.header.prefix_len == full_prefix(address)).then_some(address)
}

fn has_lifetime(found: &AddressMessage) -> bool {
    found
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, AddressAttribute::CacheInfo(cache) if cache.ifa_valid != FOR_GOOD))
}
