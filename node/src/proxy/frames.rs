//! Sessions whose frames are looked after: pings, limits, polite ends. Routes that ask for none of it are relayed as bytes.

mod ours;
mod pulse;
mod relay;
mod scan;
mod voice;
mod way;

pub(super) use self::relay::relay;
pub(super) use self::scan::{Extension, Fault};
#[cfg(test)]
pub(super) use self::scan::{Piece, Rules, Scanner, Until};
pub(super) use self::voice::{Ending, Terms, Voice};
