//! Never more than allowed, whoever asks at once; and never less than there is room for.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn n(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

fn client(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// A node with one listener and one upstream.
#[derive(Default)]
struct Here {
    limiter: Limiter,
    settings: Settings,
    listener: (Arc<Count>, Option<NonZeroU32>),
    upstream: (Arc<Count>, Option<NonZeroU32>),
}

impl Here {
    fn with(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    fn admit(&self, ms: u64, client: IpAddr) -> Result<Permit, Refusal> {
        let counted = |(count, most): &'_ (Arc<Count>, Option<NonZeroU32>)| (Arc::clone(count), *most);
        let ((l, lm), (u, um)) = (counted(&self.listener), counted(&self.upstream));
        let (listener, upstream) = (Counted { count: &l, most: lm }, Counted { count: &u, most: um });
        self.limiter.admit(Duration::from_millis(ms), &self.settings, client, listener, upstream)
    }

    fn limit(&self, ms: u64, client: IpAddr) -> Option<Limit> {
        self.admit(ms, client).err().map(|r| r.limit)
    }
}

#[test]
fn each_count_has_its_own_limit_and_gives_back() {
    let mut here = Here::with(Settings { max_sessions: n(3), ..Settings::default() });
    here.listener.1 = n(2);
    here.upstream.1 = n(1);
    let first = here.admit(0, client(1)).unwrap();
    assert_eq!(here.limit(0, client(1)), Some(Limit::Upstream(n(1).unwrap())));
    here.upstream.1 = None;
    let second = here.admit(0, client(1)).unwrap();
    assert_eq!(here.limit(0, client(1)), Some(Limit::Listener(n(2).unwrap())));
    here.listener.1 = None;
    let third = here.admit(0, client(1)).unwrap();
    assert_eq!(here.limit(0, client(1)), Some(Limit::Sessions(n(3).unwrap())));
    drop((first, second, third));
    assert_eq!((here.limiter.node.now(), here.listener.0.now(), here.upstream.0.now()), (0, 0, 0));
}

#[test]
fn one_client_is_held_and_the_next_is_not() {
    let here = Here::with(Settings { sessions_per_client_ip: n(2), ..Settings::default() });
    let (one, _two) = (here.admit(0, client(1)).unwrap(), here.admit(0, client(1)).unwrap());
    assert_eq!(here.limit(0, client(1)), Some(Limit::ClientSessions(n(2).unwrap())));
    assert_eq!(here.limit(0, "::ffff:10.0.0.1".parse().unwrap()), Some(Limit::ClientSessions(n(2).unwrap())));
    let _other = here.admit(0, client(2)).unwrap();
    drop(one);
    assert_eq!(here.limit(0, client(1)), None);
}

#[test]
fn an_ipv6_client_is_its_network() {
    let here = Here::with(Settings { sessions_per_client_ip: n(1), ..Settings::default() });
    let _held = here.admit(0, "2001:db8:0:1::1".parse().unwrap()).unwrap();
    assert!(here.limit(0, "2001:db8:0:1:ffff::2".parse().unwrap()).is_some());
    assert!(here.limit(0, "2001:db8:0:2::1".parse().unwrap()).is_none());
}

#[test]
fn a_rate_lets_a_burst_in_then_one_at_a_time() {
    let here = Here::with(Settings { upgrades_per_second: n(10), upgrade_burst: n(3), ..Settings::default() });
    assert!((0..3).all(|i| here.admit(1000, client(i)).is_ok()));
    let refused = here.admit(1000, client(9)).unwrap_err();
    assert_eq!(refused, Refusal { limit: Limit::Rate(n(10).unwrap()), after: Duration::from_millis(100) });
    assert_eq!(refused.retry_after(), 1);
    assert!(here.admit(1099, client(9)).is_err() && here.admit(1100, client(9)).is_ok());
    assert!(here.admit(1150, client(9)).is_err(), "refused ones use up nothing and give nothing");
}

#[test]
fn the_rate_of_a_client_outlives_its_sessions() {
    let limits = Settings { upgrades_per_second_per_ip: n(1), sessions_per_client_ip: n(5), ..Settings::default() };
    let here = Here::with(limits);
    drop(here.admit(5000, client(1)).unwrap());
    assert_eq!(here.limit(5001, client(1)), Some(Limit::ClientRate(n(1).unwrap())));
    assert_eq!(here.limit(5001, client(2)), None);
    assert_eq!(here.limit(6000, client(1)), None);
}

#[test]
fn one_who_asks_too_much_does_not_use_up_what_all_share() {
    let rates = Settings { upgrades_per_second_per_ip: n(1), upgrades_per_second: n(2), ..Settings::default() };
    let here = Here::with(rates);
    assert_eq!(here.limit(0, client(1)), None);
    assert!((0..100).all(|_| here.limit(0, client(1)) == Some(Limit::ClientRate(n(1).unwrap()))));
    assert_eq!(here.limit(0, client(2)), None, "the second token is still there");
    assert_eq!(here.limit(0, client(3)), Some(Limit::Rate(n(2).unwrap())));
}

#[test]
fn a_million_addresses_do_not_fill_the_memory() {
    let here = Here::with(Settings { upgrades_per_second_per_ip: n(1), ..Settings::default() });
    for i in 0..1_000_000u32 {
        assert!(here.admit(10_000 + u64::from(i / 1000), IpAddr::from(i.to_be_bytes())).is_ok());
    }
    let known: usize = here.limiter.clients.0.iter().map(|s| s.lock().unwrap().clients.len()).sum();
    assert!(known <= SHARDS * STRANGERS, "{known}");
    let limits = Settings { sessions_per_client_ip: n(1), ..Settings::default() };
    let here = Here { settings: limits, limiter: here.limiter, ..Here::default() };
    let held: Vec<Permit> = (0..50u8).map(|i| here.admit(60_000, client(i)).unwrap()).collect();
    assert!((0..50).all(|i| here.limit(60_000, client(i)).is_some()), "sessions count also when it is full");
    drop(held);
}

#[test]
fn threads_together_never_exceed_a_limit() {
    let limits = Settings { max_sessions: n(100), sessions_per_client_ip: n(30), ..Settings::default() };
    let here = Arc::new(Here::with(limits));
    let most = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..4u8)
        .map(|t| {
            let (here, most) = (Arc::clone(&here), Arc::clone(&most));
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for i in 0..20_000u32 {
                    match here.admit(0, client(t)) {
                        Ok(permit) if i % 3 > 0 => held.push(permit),
                        Ok(permit) => drop(permit),
                        Err(_) => drop(held.drain(..held.len() / 2)),
                    }
                    assert!(held.len() <= 30);
                    most.fetch_max(here.limiter.node.now(), Relaxed);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let most = most.load(Relaxed);
    assert!((31..=100).contains(&most), "{most}");
    assert_eq!(here.limiter.node.now(), 0, "all came back");
}

proptest! {
    /// In every span of time no more than the burst and the rate's share, and a refused one is told when it may.
    #[test]
    fn a_bucket_gives_what_it_may(
        rate in 1u32..2000, burst in 1u32..50, steps in prop::collection::vec(0u64..50, 1..200),
    ) {
        let rate = Rate { per_second: n(rate).unwrap(), burst: n(burst).unwrap() };
        let bucket = Bucket::default();
        let (mut now, mut given) = (1_000_000_000u64, Vec::new());
        for step in steps {
            now += step * 1_000_000;
            match bucket.take(rate, now) {
                Ok(()) => given.push(now),
                Err(wait) => {
                    let wait = u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert!(rate.after_one(bucket.0.load(Relaxed), now + wait - 1).is_err());
                    prop_assert!(rate.after_one(bucket.0.load(Relaxed), now + wait).is_ok());
                }
            }
        }
        for (i, start) in given.iter().enumerate() {
            for (j, end) in given.iter().enumerate().skip(i) {
                let share = (end - start) * u64::from(rate.per_second.get()) / 999_000_000;
                prop_assert!((j - i) as u64 <= u64::from(burst) + share, "{} in {} ns", j - i + 1, end - start);
            }
        }
    }
}
