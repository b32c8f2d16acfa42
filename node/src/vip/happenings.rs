//! What the kernel says of its own accord: an address was taken off, a cable is back.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, MulticastGroup};

use super::Error;
use super::netlink::local;

/// A connection that ended and cannot be made anew is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What happened to one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    /// This address was taken off, by whomever.
    Removed(IpAddr),
    /// It carries again, or under another Ethernet address.
    Carries,
}

/// The kernel's announcements of this machine.
pub(super) struct Happenings {
    messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
    /// The connection ends with it.
    _handle: Handle,
    carries: bool,
    mac: Vec<u8>,
}

impl Happenings {
    /// From now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open() -> Result<Self, Error> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)
            .map_err(|source| Error::Refused { what: "open a netlink socket", source })?;
        tokio::spawn(connection);
        let messages = messages.map(|(message, _)| message).boxed();
        Ok(Self { messages, _handle: handle, carries: false, mac: Vec::new() })
    }

    /// The next that concerns the interface of this index. May be dropped and called again.
    pub(super) async fn next(&mut self, index: u32) -> Happening {
        loop {
            let Some(message) = self.messages.next().await else {
                match Self::open() {
                    Ok(anew) => *self = anew,
                    Err(why) => {
                        tracing::warn!("deaf to changes of the network: {why}");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                continue;
            };
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message))
                    if message.header.index == index =>
                {
                    if let Some(address) = local(&message) {
                        return Happening::Removed(address);
                    }
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))
                    if message.header.index == index && self.came_back(&message) =>
                {
                    return Happening::Carries;
                }
                _ => {}
            }
        }
    }

    fn came_back(&mut self, message: &LinkMessage) -> bool {
        let carries = message.header.flags.contains(LinkFlags::LowerUp | LinkFlags::Running);
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(mac) => Some(mac.clone()),
            _ => None,
        });
        let moved = mac.is_some_and(|mac| mac != std::mem::replace(&mut self.mac, mac.clone()));
        let back = carries && (!self.carries || moved);
        self.carries = carries;
        back
    }
}

impl std::fmt::Debug for Happenings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Happenings").field("carries", &self.carries).finish_non_exhaustive()
    }
}
