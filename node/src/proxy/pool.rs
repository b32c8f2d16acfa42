//! Idle connections to backends, kept by each worker for plain requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::forward::Upload;

/// The most idle connections to one backend.
const MOST: usize = 64;
/// Shorter than the 5 s after which common backends (Node.js) close theirs, so that a request seldom meets a dying one.
const FRESH: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// How a connection was made, to where, and to whom: [`Dialing::id`](super::dialing::Dialing::id), the backend's address,
/// its name if it has one.
pub(super) type Way = (u64, SocketAddr, Option<Arc<str>>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pool(RefCell<HashMap<Way, Vec<Idle>>>);

impl Pool {
    /// A connection ready for a request.
    pub(super) fn take(&self, way: &Way) -> Option<SendRequest<Upload>> {
        let mut all = self.0.borrow_mut();
        let idle = all.get_mut(way)?;
        let now = Instant::now();
        // The last one given back first: it is the freshest.
        while let Some(Idle { sender, since }) = idle.pop() {
            if sender.is_ready() && now.saturating_duration_since(since) < FRESH {
                return Some(sender);
            }
        }
        None
    }

    /// Closes those that waited too long. Called now and then.
    pub(super) fn expire(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain(|i| !i.sender.is_closed() && now.saturating_duration_since(i.since) < FRESH);
            !idle.is_empty()
        });
    }
}

/// A connection in use, which may return to its pool.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) pool: Rc<Pool>,
    pub(super) way: Way,
    pub(super) sender: SendRequest<Upload>,
}

impl Lease {
    /// Its answer was heard to the end: the next request may use it.
    pub(super) fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut all = self.pool.0.borrow_mut();
        let idle = all.entry(self.way).or_default();
        if idle.len() < MOST {
            idle.push(Idle { sender: self.sender, since: Instant::now() });
        }
    }
}
