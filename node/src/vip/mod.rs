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
pub use keeper::{Keeper, Released, Settings, start};
