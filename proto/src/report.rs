//! What follows from a node's report of itself.

use crate::admin::v1::NodeReport;

impl NodeReport {
    /// Whether it serves: its consensus runs, and it does not drain. A witness has no clients, whatever this says.
    pub fn is_fit(&self) -> bool {
        self.fatal.is_empty() && !self.draining
    }
}
