//! Connect, upgrade, close, again.

use std::rc::Rc;
use std::time::Instant;

use super::dial::Dial;
use super::order::Order;
use super::tally::{Crew, Tally};

/// Adds so many that do it at once, each with its own memory of TLS sessions.
///
/// # Errors
/// The order's certificate is no such thing.
pub(super) fn busy(crew: &mut Crew, order: &Order, at_once: usize) -> anyhow::Result<()> {
    for _ in 0..at_once {
        let dial = Dial::new(order)?;
        crew.add(|tally| again(dial, tally));
    }
    Ok(())
}

async fn again(mut dial: Dial, tally: Rc<Tally>) -> anyhow::Result<()> {
    while tally.goes_on() {
        let begun = Instant::now();
        drop(dial.upgrade().await?);
        tally.add(begun);
    }
    Ok(())
}
