//! Golden scripts of the lease: each file in `scripts/` tells what happens to one node, and what it does about it.
//!
//! A line that begins with a time (ms) is an event; the indented lines below it are what must follow: the actions, then what
//! is held and until when the decider sleeps. `UPDATE_SCRIPTS=1` writes the files anew; read the difference before you commit it.
//!
//! ```text
//! T want ADDRESS...         the config gives this node these addresses
//! T lead TERM acked T       leads, by a hand-over; a majority acknowledged the heartbeat sent at T
//! T behind TERM acked T     the same, but older entries are not applied yet
//! T takes over TERM acked T leads after the death of a leader: nobody said to have let go of the addresses
//! T answer ADDRESS          somebody else says to have this address
//! T carries                 the interface carries again
//! T gone ADDRESS            somebody took this address off the interface
//! T guard                   the guard is another one
//! T follow TERM             somebody else leads
//! T beat T2                 heartbeats are acknowledged every 50 ms until T2; shows what is done meanwhile, and when
//! T sleep T2                no news until T2, but wake-ups in time
//! T paused T2               the process does not run until T2
//! T release MS              a planned move
//! T stop                    the node stops
//! T kernel well|silent|gone how actions end from now on; `gone` is the interface: removals succeed, nothing else
//! ```

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::lease::{Action, Ended, Holding, News, View};

const LEASE: u64 = 300;
const MARGIN: u64 = 60;

#[test]
fn every_script_goes_as_written() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/vip/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "the scripts are missing from {}", directory.display());
    for path in paths {
        let written = std::fs::read_to_string(&path).unwrap();
        let played = play(&written);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&path, played).unwrap();
        } else {
            assert_eq!(played, written, "{} went otherwise (left)", path.display());
        }
    }
}

enum Kernel {
    Well,
    Silent,
    Gone,
}

struct Machine {
    start: Instant,
    now: u64,
    holding: Holding,
    term: u64,
    acked: Option<u64>,
    caught_up: bool,
    vacated: bool,
    wanted: BTreeSet<IpAddr>,
    kernel: Kernel,
    told: String,
}

fn play(script: &str) -> String {
    let mut machine = Machine {
        start: Instant::now(),
        now: 0,
        holding: Holding::default(),
        term: 0,
        acked: None,
        caught_up: false,
        vacated: true,
        wanted: BTreeSet::new(),
        kernel: Kernel::Well,
        told: String::new(),
    };
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            machine.told += line;
            machine.told.push('\n');
        } else if !line.starts_with(' ') {
            machine.told += line;
            machine.told.push('\n');
            machine.event(&line.split_whitespace().collect::<Vec<_>>());
        }
    }
    machine.told
}

impl Machine {
    fn event(&mut self, words: &[&str]) {
        let number = |text: &str| text.parse::<u64>().unwrap();
        let at = number(words[0]);
        assert!(at >= self.now, "time goes forward: {words:?}");
        self.now = at;
        match words[1..] {
            ["want", ..] => self.wanted = words[2..].iter().map(|address| address.parse().unwrap()).collect(),
            ["takes", "over", term, "acked", acked] => {
                self.lead(number(term), number(acked), true);
                self.vacated = false;
            }
            ["answer", address] => self.news(&News::Rival(address.parse().unwrap(), [2, 0, 0, 0, 0, 9])),
            ["gone", address] => self.news(&News::Gone(address.parse().unwrap())),
            ["carries"] => self.news(&News::Carries),
            ["guard"] => self.news(&News::Guard),
            ["lead", term, "acked", acked] => self.lead(number(term), number(acked), true),
            ["behind", term, "acked", acked] => self.lead(number(term), number(acked), false),
            ["follow", term] => (self.term, self.acked) = (number(term), None),
            ["beat", until] => return self.run(number(until), Some(50)),
            ["sleep", until] => return self.run(number(until), None),
            ["paused", until] => self.now = number(until),
            ["release", keep_away] => self.holding.release(self.term, self.at(at + number(keep_away))),
            ["stop"] => self.holding.stop(),
            ["kernel", "well"] => self.kernel = Kernel::Well,
            ["kernel", "silent"] => self.kernel = Kernel::Silent,
            ["kernel", "gone"] => self.kernel = Kernel::Gone,
            _ => panic!("no such event: {words:?}"),
        }
        let wake = self.settle(false);
        self.conclude(wake);
    }

    fn lead(&mut self, term: u64, acked: u64, caught_up: bool) {
        (self.term, self.acked, self.caught_up, self.vacated) = (term, Some(acked), caught_up, true);
    }

    fn news(&mut self, news: &News) {
        let concerns = self.holding.heard(news, Duration::from_millis(LEASE), self.at(self.now));
        writeln!(self.told, "    {}", if concerns { "is news" } else { "is nothing new" }).unwrap();
    }

    /// Lets time pass, waking whenever the decider asked for it or a heartbeat is acknowledged.
    fn run(&mut self, until: u64, heartbeat: Option<u64>) {
        let mut next_beat = self.now;
        loop {
            if heartbeat.is_some() && next_beat == self.now {
                self.acked = Some(self.now);
            }
            let wake = self.settle(true);
            if self.now >= until {
                return self.conclude(wake);
            }
            next_beat =
                heartbeat.map_or(until, |every| if next_beat <= self.now { self.now + every } else { next_beat });
            self.now = wake.map_or(until, |wake| wake.max(self.now + 1)).min(next_beat).min(until);
        }
    }

    /// Does what is to be done now, and returns when to wake.
    fn settle(&mut self, with_time: bool) -> Option<u64> {
        for _ in 0..1000 {
            let view = self.view();
            let action = self.holding.decide(&view);
            let told = match &action {
                Action::Wait(wake) => return wake.map(|wake| self.ms(wake)),
                Action::Probe(address) => format!("ask who has {address}"),
                Action::Add(address) => format!("add {address}"),
                Action::Renew(address) => format!("renew {address}"),
                Action::Announce(address) => format!("announce {address}"),
                Action::Remove(address, why) => format!("remove {address}: {why}"),
            };
            let when = if with_time { format!("{} ", self.now) } else { String::new() };
            let (ended, how) = match (&self.kernel, &action) {
                (Kernel::Well, _) | (Kernel::Gone, Action::Remove(..)) => (Ended::Well, ""),
                (Kernel::Gone, _) => (Ended::Refused, " (refused)"),
                (Kernel::Silent, _) => (Ended::InDoubt, " (no answer)"),
            };
            writeln!(self.told, "    {when}{told}{how}").unwrap();
            self.holding.ended(&action, ended, &view, view.now);
        }
        panic!("it never comes to rest:\n{}", self.told);
    }

    fn conclude(&mut self, wake: Option<u64>) {
        let held: Vec<String> = self.holding.held().iter().map(ToString::to_string).collect();
        let held = if held.is_empty() { "nothing".to_owned() } else { held.join(" ") };
        let sleeps = wake.map_or("until told".to_owned(), |wake| format!("until {wake}"));
        writeln!(self.told, "    holds {held}, sleeps {sleeps}").unwrap();
    }

    fn view(&self) -> View {
        View {
            now: self.at(self.now),
            term: self.term,
            fence: self.acked.map(|acked| self.at(acked + LEASE - MARGIN)),
            caught_up: self.caught_up,
            wanted: self.wanted.clone(),
            vacated: self.vacated,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from((at - self.start).as_millis()).unwrap()
    }
}
