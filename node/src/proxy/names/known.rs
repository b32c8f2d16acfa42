//! What is known of one name: its servers, as they were last told, and when to ask again. Pure: time is an argument.
//!
//! ```text
//!  an answer   these are its servers; asked again when its TTL is over, after 1 s at least and 5 min at most
//!  none        the servers of the last answer stay; asked again after 1, 2, 4, 8, 16 s, and then each 30 s
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The least time to the next question, whatever the TTL.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest time an answer is believed, whatever the TTL.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The longest time from one question without an answer to the next.
const PATIENT: Duration = Duration::from_secs(30);

/// The most servers that one name stands for. Each is checked and has a line in every list: what says more is more likely
/// a mistake or an attack than an upstream.
pub(super) const MOST: usize = 256;

/// One server that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Server {
    pub(in crate::proxy) address: SocketAddr,
    /// Its share among the servers of a service; `None`: DNS says nothing of it.
    pub(in crate::proxy) weight: Option<NonZeroU32>,
    /// Others of the service come before it.
    pub(in crate::proxy) backup: bool,
}

impl Server {
    /// One of which nothing else is said.
    pub(in crate::proxy) fn at(address: SocketAddr) -> Self {
        Self { address, weight: None, backup: false }
    }
}

/// An SRV record (RFC 2782) whose target has been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: Vec<IpAddr>,
}

/// The servers of a service: those with the lowest priority, and behind them the others as backups. The addresses of one
/// target share its weight; a weight of zero is the smallest there is.
pub(super) fn servers_of(mut records: Vec<Record>) -> Vec<Server> {
    records.retain(|record| !record.target.is_empty());
    records.sort_by_key(|record| record.priority);
    let first = records.first().map(|record| record.priority);
    let mut servers = BTreeMap::new();
    for Record { priority, weight, port, target } in records {
        let shared = usize::from(weight).div_ceil(target.len());
        let weight = u32::try_from(shared).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        for ip in target {
            let address = SocketAddr::new(ip, port);
            // Who is told twice is where it is told first.
            servers.entry(address).or_insert(Server { address, weight: Some(weight), backup: Some(priority) != first });
        }
    }
    servers.into_values().collect()
}

/// What DNS said: at least one server, and for how long that may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) servers: Vec<Server>,
    pub(super) ttl: Duration,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Known {
    servers: Arc<[Server]>,
    /// When they were told.
    told: Option<Duration>,
    /// How many servers were told of, if that is more than are taken.
    too_many: Option<usize>,
    /// Why the last question had no answer, and how many in a row had none.
    failure: Option<(String, u32)>,
}

/// What follows from an answer, or from none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// Other servers than before are to be used, or one of them otherwise.
    pub(super) other: bool,
    /// When to ask again.
    pub(super) ask_in: Duration,
}

impl Known {
    /// After one more answer, or after none and why.
    pub(super) fn hear(&mut self, answer: Result<Answer, String>, now: Duration) -> Next {
        match answer {
            Ok(Answer { mut servers, ttl }) => {
                // DNS turns the order round with each answer.
                servers.sort_unstable_by_key(|server| server.address);
                servers.dedup_by_key(|server| server.address);
                let too_many = Some(servers.len()).filter(|n| *n > MOST);
                if too_many.is_some() {
                    // The same ones from answer to answer; backups go first.
                    servers.sort_by_key(|server| server.backup);
                    servers.truncate(MOST);
                    servers.sort_unstable_by_key(|server| server.address);
                }
                let other = *self.servers != *servers;
                *self = Self { servers: servers.into(), told: Some(now), too_many, failure: None };
                Next { other, ask_in: ttl.clamp(SHORTEST, LONGEST) }
            }
            Err(why) => {
                let before = self.failure.take().map_or(0, |(_, times)| times);
                self.failure = Some((why, before.saturating_add(1)));
                Next { other: false, ask_in: SHORTEST.saturating_mul(1 << before.min(16)).min(PATIENT) }
            }
        }
    }

    /// Its servers.
    pub(super) fn servers(&self) -> &Arc<[Server]> {
        &self.servers
    }

    /// What the operator should know; `None`: all is well, or it is being asked for the first time.
    pub(super) fn trouble(&self, now: Duration) -> Option<String> {
        let Some((why, _)) = &self.failure else {
            let mend = "spread them over more names";
            return self.too_many.map(|n| format!("DNS tells of {n} servers, and {MOST} at most are taken: {mend}"));
        };
        Some(match self.told {
            Some(told) => format!("last answer of {} s ago kept: {why}", now.saturating_sub(told).as_secs()),
            None => format!("no address known yet: {why}"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn answer(last: &[u8], ttl: u64) -> Result<Answer, String> {
        let servers = last.iter().map(|n| Server::at(([10, 0, 0, *n], 80).into())).collect();
        Ok(Answer { servers, ttl: secs(ttl) })
    }

    fn last(known: &Known) -> Vec<String> {
        known.servers().iter().map(|s| s.address.to_string()).collect()
    }

    #[test]
    fn an_answer_is_believed_for_its_ttl_within_bounds() {
        let mut known = Known::default();
        assert_eq!(known.hear(answer(&[2, 1], 60), secs(0)), Next { other: true, ask_in: secs(60) });
        assert_eq!(last(&known), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(known.hear(answer(&[1, 2, 1], 0), secs(60)), Next { other: false, ask_in: secs(1) }, "any order");
        assert_eq!(known.hear(answer(&[2], 86_400), secs(61)), Next { other: true, ask_in: secs(300) });
        assert_eq!(last(&known), ["10.0.0.2:80"]);
    }

    #[test]
    fn without_an_answer_the_last_one_stays_and_is_told_of() {
        let mut known = Known::default();
        let none = || Err("nobody answers".to_owned());
        assert_eq!(known.trouble(secs(0)), None, "it has not been asked for yet");
        known.hear(none(), secs(0));
        assert_eq!(known.trouble(secs(0)).unwrap(), "no address known yet: nobody answers");
        known.hear(answer(&[1], 10), secs(1));
        assert_eq!(known.trouble(secs(5)), None);
        let waits: Vec<u64> = (0..8).map(|_| known.hear(none(), secs(11)).ask_in.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(last(&known), ["10.0.0.1:80"]);
        assert_eq!(known.trouble(secs(41)).unwrap(), "last answer of 40 s ago kept: nobody answers");
        assert!(!known.hear(answer(&[1], 10), secs(42)).other, "they are the same as ever");
        assert_eq!(known.trouble(secs(42)), None);
        assert_eq!(known.hear(none(), secs(52)).ask_in, secs(1), "counted anew");
    }

    #[test]
    fn of_too_many_servers_the_same_ones_are_taken_and_it_is_told() {
        let server = |n: u16| {
            let [high, low] = n.to_be_bytes();
            Server { backup: n < 10, ..Server::at(([10, 0, high, low], 80).into()) }
        };
        let answer = |n: u16| Ok(Answer { servers: (0..n).rev().map(server).collect(), ttl: secs(60) });
        let mut known = Known::default();
        known.hear(answer(256), secs(0));
        assert_eq!((known.servers().len(), known.trouble(secs(0))), (256, None));
        assert!(known.hear(answer(300), secs(1)).other);
        let taken: Vec<Server> = (10..266).map(server).collect();
        assert_eq!(**known.servers(), *taken, "backups go first, then the highest addresses");
        let trouble = "DNS tells of 300 servers, and 256 at most are taken: spread them over more names";
        assert_eq!(known.trouble(secs(1)).unwrap(), trouble);
        assert!(!known.hear(answer(300), secs(2)).other, "they are the same as before");
        known.hear(Err("nobody answers".to_owned()), secs(3));
        assert_eq!(known.trouble(secs(4)).unwrap(), "last answer of 2 s ago kept: nobody answers");
        known.hear(answer(256), secs(5));
        assert_eq!(known.trouble(secs(5)), None);
    }

    #[test]
    fn a_weight_that_changes_is_news() {
        let mut known = Known::default();
        let weighing = |weight| {
            let server = Server { weight: NonZeroU32::new(weight), ..Server::at(([10, 0, 0, 1], 80).into()) };
            Ok(Answer { servers: vec![server], ttl: secs(1) })
        };
        assert!(known.hear(weighing(1), secs(0)).other);
        assert!(!known.hear(weighing(1), secs(1)).other);
        assert!(known.hear(weighing(2), secs(2)).other);
    }

    #[test]
    fn a_service_is_its_first_targets_and_the_others_behind_them() {
        let record = |priority, weight, port, target: &[u8]| {
            let target = target.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect();
            Record { priority, weight, port, target }
        };
        let told = |records| -> Vec<(String, u32, bool)> {
            let said = |s: &Server| (s.address.to_string(), s.weight.unwrap().get(), s.backup);
            servers_of(records).iter().map(said).collect()
        };
        let one = |address: &str, weight, backup| (address.to_owned(), weight, backup);
        assert_eq!(
            told(vec![
                record(20, 7, 80, &[4]),
                record(10, 60, 81, &[1]),
                record(10, 40, 81, &[2, 3]),
                record(10, 0, 82, &[1])
            ]),
            [
                one("10.0.0.1:81", 60, false),
                one("10.0.0.1:82", 1, false),
                one("10.0.0.2:81", 20, false),
                one("10.0.0.3:81", 20, false),
                one("10.0.0.4:80", 7, true),
            ]
        );
        assert_eq!(told(vec![record(1, 1, 80, &[]), record(2, 5, 80, &[1])]), [one("10.0.0.1:80", 5, false)]);
        assert_eq!(told(vec![record(2, 5, 80, &[1]), record(1, 3, 80, &[1])]), [one("10.0.0.1:80", 3, false)]);
        assert_eq!(told(Vec::new()), []);
    }
}
