//! `status`: asked once, or again every second.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::view;
use crate::client::Client;
use crate::output::{Error, Ink, Reader, Told, tell};

/// From one look to the next.
const PACE: Duration = Duration::from_secs(1);

pub(super) async fn once(client: &Client) -> Result<Told, Error> {
    let status = client.status().await?;
    let people = view::people(&status, Ink::of_stdout());
    Ok(Told { people, programs: view::programs(&status), notes: Vec::new() })
}

/// Until the reader goes away: a screen for people, a document a line for programs. An outage is told, not an end.
pub(super) async fn watch(client: &Client, reader: Reader) -> ExitCode {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let outcome = once(client).await;
        let mut stdout = std::io::stdout();
        let parted = match reader {
            Reader::Programs => Ok(()),
            // Home, and clear to the end: no flicker.
            Reader::People if stdout.is_terminal() => stdout.write_all(b"\x1b[H\x1b[2J"),
            Reader::People => stdout.write_all(b"\n"),
        };
        if parted.and_then(|()| stdout.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
        tell(reader, outcome);
    }
}
