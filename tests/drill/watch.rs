//! The client of docker-compose.yml: holds sessions, and prints one line a second for a person to watch.

use std::net::SocketAddr;
use std::time::Duration;

use tandem_tests::clock::{Micros, now};
use tandem_tests::peers;
use tandem_tests::story::{Seen, Story, broken, held, longest_silence, reconnected};

/// How far back the last outage is looked for.
const MEMORY: Micros = 60_000_000;

/// Runs until stopped.
///
/// # Errors
/// None so far.
pub(crate) async fn run(target: SocketAddr) -> anyhow::Result<()> {
    let mut story = Story::default();
    let _probe = peers::probe(target, Duration::from_millis(20), Duration::from_secs(2), story.teller());
    let _held = peers::hold(target, 20, Duration::from_millis(100), story.teller());
    let begun = now();
    let mut last = String::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = now();
        story.forget(now.saturating_sub(MEMORY));
        let seen = story.read();
        let (back, _) = reconnected(seen, 0, now);
        let silence = longest_silence(seen, begun.max(now.saturating_sub(MEMORY)), now);
        let backends = seen.iter().rev().take(100).filter_map(|s| match s {
            Seen::Answered { backend, .. } => Some(backend.as_str()),
            _ => None,
        });
        let backends: std::collections::BTreeSet<&str> = backends.collect();
        let line = format!(
            "{target}: {} sessions held, {} broken, {back} reconnected; longest wait for a new connection in the last minute {silence} ms; answered by {}",
            held(seen),
            broken(seen, 0, now),
            if backends.is_empty() { "nobody".to_owned() } else { backends.into_iter().collect::<Vec<_>>().join(", ") },
        );
        // A log of equal lines tells nothing.
        if line != last {
            println!("{line}");
            last = line;
        }
    }
}
