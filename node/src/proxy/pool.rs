//! Idle connections to backends, kept by each worker for plain requests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::forward::Upload;
use super::wire::Wire;

/// The most idle connections to one backend.
const MOST: usize = 64;
/// Shorter than the 5 s after which common backends (Node.js) close theirs, so that a request seldom meets a dying one.
const FRESH: Duration = Duration::from_secs(4);

/// A connection to a backend, free for a request.
#[derive(Debug)]
pub(super) enum Link {
    /// Asked by hand.
    Bare(Box<Wire>),
    /// In the hands of a general HTTP client, which does not let go of it.
    Driven(SendRequest<Upload>),
}

impl Link {
    fn is_free(&mut self) -> bool {
        match self {
            Self::Bare(wire) => wire.is_quiet(),
            Self::Driven(sender) => sender.is_ready(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            // Found out when it is taken; before long it is too old anyway.
            Self::Bare(_) => false,
            Self::Driven(sender) => sender.is_closed(),
        }
    }
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

/// How a connection was made, to where, and to whom: [`Dialing::id`](super::dialing::Dialing::id), the backend's address,
/// its name if it has one.
pub(super) type Way = (u64, SocketAddr, Option<Arc<str>>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pool(RefCell<BTreeMap<Way, Vec<Idle>>>);

impl Pool {
    /// A connection ready for a request.
    pub(super) fn take(&self, way: &Way, now: Instant) -> Option<Link> {
        let mut all = self.0.borrow_mut();
        let idle = all.get_mut(way)?;
        // The last one given back first: it is the freshest.
        while let Some(Idle { mut link, since }) = idle.pop() {
            if link.is_free() && now.saturating_duration_since(since) < FRESH {
                return Some(link);
            }
        }
        None
    }

    /// Closes those that waited too long. Called now and then.
    pub(super) fn expire(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain(|i| !i.link.is_over() && now.saturating_duration_since(i.since) < FRESH);
            !idle.is_empty()
        });
    }
}

/// Where a connection in use came from, and may return to.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) pool: Rc<Pool>,
    pub(super) way: Way,
}

impl Home {
    /// Its answer was heard to the end: the next request may use it.
    pub(super) fn take_back(self, link: Link) {
        if link.is_over() {
            return;
        }
        let mut all = self.pool.0.borrow_mut();
        let idle = all.entry(self.way).or_default();
        if idle.len() < MOST {
            idle.push(Idle { link, since: Instant::now() });
        }
    }
}
