//! One log, one truth: every change goes through consensus, every node applies the same changes in the same order.

mod clock;
mod disk;
mod formation;
mod handle;
pub mod history;
mod inspect;
mod log;
mod machine;
mod membership;
mod network;
mod raft;
mod recent;
mod standing;
pub mod state;
mod store;
mod succession;
mod timers;
mod timings;
mod wire;

pub use clock::now;
pub use disk::{Directory, Disk, File};
pub use formation::Founding;
pub use handle::{Control, Error};
pub use membership::{Doors, Error as EnterError};
pub use network::{Dial, Line, channel};
pub use standing::{Member, NodeId, Role, Standing};
pub use store::{Error as StoreError, Store, Writer};
pub use succession::ranked;
pub use timers::Timers;
pub use timings::Timings;
