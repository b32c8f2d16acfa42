//! Who holds the virtual addresses.

mod error;
mod garp;
mod hands;
mod lease;
mod netlink;
mod owner;

#[cfg(test)]
mod invariant;
#[cfg(test)]
mod scripts;

pub use error::Error;
pub use hands::Provider;
