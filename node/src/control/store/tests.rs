//! What the store promises, on a disk that forgets, fails and rots.

#![allow(clippy::unwrap_used, clippy::panic)]

mod beside;
mod crashes;
mod damage;
mod formats;
mod reopening;
mod rough;
mod story;
