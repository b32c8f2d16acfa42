//! Who holds the virtual addresses.

mod error;
mod garp;
mod hands;
mod keeper;
mod lease;
mod netlink;
mod owner;
mod priority;

#[cfg(test)]
mod invariant;
#[cfg(test)]
mod namespace;
#[cfg(test)]
mod scripts;

pub use error::Error;
pub use hands::Hands;
pub use keeper::{Keeper, Released, Settings, attend, start};
pub use lease::{Action, Why};
