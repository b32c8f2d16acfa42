//! Who holds the virtual addresses.

mod arp;
mod ears;
mod error;
mod ethernet;
mod guard;
mod guarded;
mod hands;
mod happenings;
mod keeper;
mod lease;
mod linux;
mod neighbour;
mod netlink;
mod owner;
mod priority;
mod proof;

#[cfg(test)]
mod announcing;
#[cfg(test)]
mod guarding;
#[cfg(test)]
mod invariant;
#[cfg(test)]
mod namespace;
#[cfg(test)]
mod scripts;

pub use error::Error;
pub use guard::run as guard;
pub use hands::Hands;
pub use keeper::{Keeper, Notes, Released, Rival, Settings, attend, start};
pub use lease::{Action, News, Why};
