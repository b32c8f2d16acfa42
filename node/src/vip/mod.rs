//! Who holds the virtual addresses.

mod lease;
mod owner;

#[cfg(test)]
mod invariant;
#[cfg(test)]
mod scripts;
