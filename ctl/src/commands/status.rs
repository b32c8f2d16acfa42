//! `status`: asked once, or again every second.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use serde_json::Value;
use tandem_proto::admin::v1::ReportRequest;

use super::view;
use crate::client::Client;
use crate::output::{Error, Ink, Reader, Told, tell, words};
use crate::screen::{Size, drawn};

/// From one look to the next.
const PACE: Duration = Duration::from_secs(1);
const FOOT: &str = "every second; Ctrl-C ends";

/// For the reader who asked: programs get every backend, people what they can read.
pub(super) async fn once(client: &Client, reader: Reader) -> Result<Told, Error> {
    let status = client.status(&asked(reader)).await?;
    let (people, programs) = match reader {
        Reader::People => (view::people(&status, Ink::of_stdout()), Value::Null),
        Reader::Programs => (String::new(), view::programs(&status)),
    };
    Ok(Told { people, programs, notes: Vec::new() })
}

/// What nodes are asked for this reader.
pub(super) fn asked(reader: Reader) -> ReportRequest {
    match reader {
        Reader::People => ReportRequest::brief(),
        Reader::Programs => ReportRequest::default(),
    }
}

/// Until the reader goes away: a screen for people, a document a line for programs. An outage is told, not an end.
pub(super) async fn watch(client: &Client, reader: Reader) -> ExitCode {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let outcome = once(client, reader).await;
        let mut stdout = std::io::stdout();
        let told = match reader {
            Reader::People if stdout.is_terminal() => stdout.write_all(drawn(&words(outcome), FOOT, size()).as_bytes()),
            Reader::People => stdout.write_all((words(outcome) + "\n").as_bytes()),
            Reader::Programs => {
                tell(reader, outcome);
                Ok(())
            }
        };
        if told.and_then(|()| stdout.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
    }
}

/// How much the terminal shows; it may be made larger or smaller at any time.
fn size() -> Size {
    let known = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(Size { rows: 24, columns: 80 }, |size| Size { rows: size.ws_row.into(), columns: size.ws_col.into() })
}
