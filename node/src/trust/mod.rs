//! Certificates of this node: made here, kept in files that are whole or not there, signed by the cluster's authority.

mod authority;
mod files;

pub use authority::{Error, Signer, key_hash, new_authority, request, sealed_as};
pub use files::{put, read};
