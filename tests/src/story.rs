//! What clients saw, and what it amounts to.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::clock::{Micros, millis};

/// One thing that a client saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Seen {
    /// A new connection was made, upgraded and echoed.
    Answered {
        /// When it was begun.
        started: Micros,
        /// When the echo was there.
        ended: Micros,
        /// Who answered.
        backend: String,
    },
    /// A new connection failed.
    Unanswered {
        /// When it was begun.
        started: Micros,
        /// When it was given up.
        ended: Micros,
        /// How it failed.
        why: String,
    },
    /// A session that is to be held was opened.
    Opened {
        /// Which.
        session: usize,
        /// When.
        at: Micros,
        /// Who answered.
        backend: String,
    },
    /// A held session broke, or did not echo in time.
    Broken {
        /// Which.
        session: usize,
        /// When that was noticed.
        at: Micros,
        /// How.
        why: String,
    },
    /// A broken session is held again.
    Reconnected {
        /// Which.
        session: usize,
        /// When.
        at: Micros,
        /// Who answered.
        backend: String,
    },
    /// A busy session had a message echoed.
    Echoed {
        /// When it was sent.
        started: Micros,
        /// When it was back.
        ended: Micros,
    },
}

/// Everything seen so far, in the order of telling.
pub struct Story {
    seen: Vec<Seen>,
    tell: UnboundedSender<Seen>,
    told: UnboundedReceiver<Seen>,
}

impl Default for Story {
    fn default() -> Self {
        let (tell, told) = unbounded_channel();
        Self { seen: Vec::new(), tell, told }
    }
}

impl Story {
    /// Where clients tell what they see.
    pub fn teller(&self) -> UnboundedSender<Seen> {
        self.tell.clone()
    }

    /// Forgets new connections that ended before `then`; held sessions are remembered.
    pub fn forget(&mut self, then: Micros) {
        self.seen
            .retain(|s| !matches!(s, Seen::Answered { ended, .. } | Seen::Unanswered { ended, .. } if *ended < then));
    }

    /// All of it up to now.
    pub fn read(&mut self) -> &[Seen] {
        while let Ok(seen) = self.told.try_recv() {
            self.seen.push(seen);
        }
        &self.seen
    }
}

/// The longest time in `from..to` in which no new connection got its answer; the whole span if none did.
///
/// What is under way at the edges counts only inside them, so a span must begin and end in good times.
pub fn silence(seen: &[Seen], from: Micros, to: Micros) -> Range<Micros> {
    let mut answers: Vec<Micros> = seen
        .iter()
        .filter_map(|s| match s {
            Seen::Answered { ended, .. } => Some(*ended),
            _ => None,
        })
        .filter(|at| (from..=to).contains(at))
        .collect();
    answers.extend([from, to]);
    answers.sort_unstable();
    answers.windows(2).map(|pair| pair[0]..pair[1]).max_by_key(|gap| gap.end - gap.start).unwrap_or(from..to)
}

/// How long that was, in milliseconds.
pub fn longest_silence(seen: &[Seen], from: Micros, to: Micros) -> u64 {
    let silence = silence(seen, from, to);
    millis(silence.start, silence.end)
}

/// New connections begun in `from..to` that failed.
pub fn unanswered(seen: &[Seen], from: Micros, to: Micros) -> usize {
    seen.iter().filter(|s| matches!(s, Seen::Unanswered { started, .. } if (from..to).contains(started))).count()
}

/// Held sessions that broke in `from..to`.
pub fn broken(seen: &[Seen], from: Micros, to: Micros) -> usize {
    seen.iter().filter(|s| matches!(s, Seen::Broken { at, .. } if (from..to).contains(at))).count()
}

/// Held sessions that came back in `from..to`, and when the last one did.
pub fn reconnected(seen: &[Seen], from: Micros, to: Micros) -> (usize, Option<Micros>) {
    let back: Vec<Micros> = seen
        .iter()
        .filter_map(|s| match s {
            Seen::Reconnected { at, .. } => Some(*at),
            _ => None,
        })
        .filter(|at| (from..to).contains(at))
        .collect();
    (back.len(), back.into_iter().max())
}

/// Held sessions now: opened, and not broken without coming back.
pub fn held(seen: &[Seen]) -> usize {
    let count = |f: fn(&Seen) -> bool| seen.iter().filter(|s| f(s)).count();
    let open = count(|s| matches!(s, Seen::Opened { .. } | Seen::Reconnected { .. }));
    open.saturating_sub(count(|s| matches!(s, Seen::Broken { .. })))
}

/// Round trips of the busy sessions' messages sent in `from..to`, in microseconds, ascending.
pub fn round_trips(seen: &[Seen], from: Micros, to: Micros) -> Vec<u64> {
    let mut all: Vec<u64> = seen
        .iter()
        .filter_map(|s| match s {
            Seen::Echoed { started, ended } if (from..to).contains(started) => Some(ended - started),
            _ => None,
        })
        .collect();
    all.sort_unstable();
    all
}

/// The value below which `percent` of the ascending `values` lie; zero if there are none.
pub fn percentile(values: &[u64], percent: usize) -> u64 {
    let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(ended: Micros) -> Seen {
        Seen::Answered { started: ended - 1, ended, backend: String::new() }
    }

    #[test]
    fn silence_is_the_longest_gap_between_answers_edges_included() {
        let seen = [answered(10_000), answered(20_000), answered(520_000), answered(530_000)];
        assert_eq!(longest_silence(&seen, 0, 540_000), 500);
        assert_eq!(longest_silence(&seen, 0, 1_540_000), 1_010, "silence up to the end counts");
        assert_eq!(longest_silence(&[], 0, 7_000), 7, "no answer at all is silence all along");
    }

    #[test]
    fn a_session_that_broke_and_came_back_is_held() {
        let (session, backend, why) = (0, String::new(), String::new());
        let opened = Seen::Opened { session, at: 1, backend: backend.clone() };
        let broke = Seen::Broken { session, at: 2, why };
        let back = Seen::Reconnected { session, at: 3, backend };
        assert_eq!(held(&[opened.clone(), broke.clone()]), 0);
        assert_eq!(held(&[opened.clone(), broke.clone(), back.clone()]), 1);
        assert_eq!(reconnected(&[opened, broke, back], 0, 10), (1, Some(3)));
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99), percentile(&values, 100)), (50, 99, 100));
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[], 50), 0);
    }
}
