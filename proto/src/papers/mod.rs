//! Who somebody is, and how that is proved: certificates whose names are those of nodes and users of one cluster.

mod bundle;
mod channel;
mod identity;
mod verify;

pub use bundle::{Error, Papers, fingerprint, validity};
pub use channel::{Current, channel, connect, connector, endpoint};
pub use identity::{Access, Identity, Who};
pub use verify::{Expect, newcomer};
