//! What the drill and its parts inside the containers say to each other: one JSON document a line.

use serde::{Deserialize, Serialize};
use tandem_tests::clock::Micros;
use tandem_tests::story::Seen;

/// To the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Go on changing the config, one change after another.
    Write,
    /// Stop that; answered with `Rested` when the last one is through.
    Rest,
    /// Run tandemctl with these words; answered with `Ran`.
    Run(Vec<String>),
    /// Wait until all nodes are at one revision; answered with `Agreed`.
    Agree,
    /// What became of the changes? Answered with `Written`.
    Read,
}

/// From the client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// What a peer saw.
    Saw(Seen),
    /// A change was acknowledged: this route is there.
    Acknowledged(String),
    /// No change is under way.
    Rested,
    /// tandemctl has ended.
    Ran {
        /// When it was started.
        started: Micros,
        /// When it ended.
        ended: Micros,
        /// Its exit code; -1 if it did not exit.
        code: i32,
        /// Its data.
        out: String,
        /// Its talk.
        err: String,
    },
    /// The revision of all nodes, or what each of them said when time was up.
    Agreed(Result<u64, String>),
    /// Each node, its revision, and the routes of acknowledged changes on it.
    Written(Vec<(String, u64, Vec<String>)>),
}

/// One look at the addresses of a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The look began.
    pub(crate) before: Micros,
    /// And ended.
    pub(crate) after: Micros,
    /// The address was there.
    pub(crate) holds: bool,
}
