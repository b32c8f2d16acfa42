//! Backends that are names: whom they stand for now, found out again and again.
//!
//! The steward follows each name of the config on its own thread; workers only ever see the tables that come of it.

mod asking;
mod known;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use self::asking::{Asker, Failure};
pub(super) use self::known::Server;
use self::known::{Answer, Known, Next};
use super::backend::now;
use super::settings::NameReport;
use crate::config::model::{Address, Config};
use crate::metrics::Page;

/// What becomes of a question.
const RESULTS: [&str; 3] = ["answered", "nothing", "failed"];

/// What is known of each name, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Book {
    names: Mutex<BTreeMap<Address, Known>>,
    lookups: [AtomicU64; RESULTS.len()],
}

impl Book {
    /// The servers that stand behind an address now; none of a name that is not known yet.
    pub(super) fn servers(&self, address: &Address) -> Arc<[Server]> {
        match address {
            Address::Ip(address) => Arc::new([Server::at(*address)]),
            name => self.names().get(name).map(|known| Arc::clone(known.servers())).unwrap_or_default(),
        }
    }

    /// Each name of the config.
    pub(super) fn report(&self) -> Vec<NameReport> {
        let now = now();
        let report = |(name, known): (&Address, &Known)| NameReport {
            name: name.clone(),
            servers: known.servers().len(),
            trouble: known.trouble(now),
        };
        self.names().iter().map(report).collect()
    }

    /// Writes what was counted.
    pub(super) fn counted(&self, page: &mut Page<'_>) -> fmt::Result {
        let names = self.report();
        let each = |value: fn(&NameReport) -> f64| {
            names.iter().map(|name| (vec![("name", name.name.to_string())], value(name))).collect()
        };
        let servers = each(|name| f64::from(u32::try_from(name.servers).unwrap_or(u32::MAX)));
        page.gauge("dns_name_servers", "Servers that a backend's name stands for.", servers)?;
        let trouble = each(|name| name.trouble.is_some().into());
        page.gauge("dns_name_trouble", "1 if the last question had no answer, or not all of it is used.", trouble)?;
        let lookups = RESULTS.iter().zip(&self.lookups);
        let lookups = lookups.map(|(result, n)| (vec![("result", (*result).to_owned())], n.load(Relaxed))).collect();
        page.counter("dns_lookups", "Names asked for in DNS, by result.", lookups)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<Address, Known>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an answer, or of none.
    fn hear(&self, name: &Address, answer: Result<Answer, Failure>) -> Next {
        self.lookups[match &answer {
            Ok(_) => 0,
            Err(Failure::Nothing(_)) => 1,
            Err(Failure::Failed(_)) => 2,
        }]
        .fetch_add(1, Relaxed);
        let answer = answer.map_err(|failure| failure.to_string());
        let mut names = self.names();
        // Not known any more: the config has just lost it.
        let mut gone = Known::default();
        let known = names.get_mut(name).unwrap_or(&mut gone);
        let before = known.trouble(now()).is_some();
        let next = known.hear(answer, now());
        match known.trouble(now()) {
            Some(trouble) if !before => tracing::warn!(%name, trouble, "something is wrong with a backend's name"),
            None if next.other || before => {
                let servers: Vec<SocketAddr> = known.servers().iter().map(|s| s.address).collect();
                tracing::info!(%name, ?servers, "resolved a backend");
            }
            _ => {}
        }
        next
    }
}

/// Follows the names of the config.
#[derive(Debug)]
pub(super) struct Names {
    book: Arc<Book>,
    asker: Arc<Asker>,
    news: Arc<Notify>,
    /// Dropped when nobody needs the name any more.
    followed: BTreeMap<Address, oneshot::Sender<()>>,
}

impl Names {
    /// Writes into `book` what these DNS servers say; without any, those of the system.
    pub(super) fn new(book: Arc<Book>, servers: Vec<SocketAddr>) -> Self {
        Self { book, asker: Arc::new(Asker::new(servers)), news: Arc::default(), followed: BTreeMap::new() }
    }

    /// Follows the names of this config, and no others any more.
    pub(super) fn follow(&mut self, config: &Config) {
        let addresses = config.upstreams.values().flat_map(|upstream| upstream.backends.keys());
        let mut before = std::mem::take(&mut self.followed);
        for name in addresses.filter(|address| address.host().is_some()) {
            if self.followed.contains_key(name) {
                continue;
            }
            let followed = before.remove(name).unwrap_or_else(|| {
                let (followed, left) = oneshot::channel();
                self.book.names().insert(name.clone(), Known::default());
                let (book, asker, news) = (Arc::clone(&self.book), Arc::clone(&self.asker), Arc::clone(&self.news));
                tokio::task::spawn_local(follow(name.clone(), book, asker, news, left));
                followed
            });
            self.followed.insert(name.clone(), followed);
        }
        self.book.names().retain(|name, _| self.followed.contains_key(name));
    }

    /// Waits until a name stands for other servers than it did.
    pub(super) async fn changed(&self) {
        self.news.notified().await;
    }
}

/// Asks for one name again and again, until the other end of `left` is dropped.
async fn follow(name: Address, book: Arc<Book>, asker: Arc<Asker>, news: Arc<Notify>, mut left: oneshot::Receiver<()>) {
    let asking = async {
        loop {
            let Next { other, ask_in } = book.hear(&name, asker.ask(&name).await);
            if other {
                news.notify_one();
            }
            tokio::time::sleep(ask_in).await;
        }
    };
    tokio::select! {
        biased;
        _ = &mut left => {}
        () = asking => {}
    }
}
