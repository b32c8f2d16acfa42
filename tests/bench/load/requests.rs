//! Plain requests on connections that stay.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::dial::{Dial, Duplex};
use super::tally::{Crew, Tally};
use crate::backend::{header, page};
use crate::certificate::NAME;

/// Adds so many connections that are busy all the time.
///
/// # Errors
/// One does not open.
pub(super) async fn busy(crew: &mut Crew, dial: &mut Dial, connections: usize) -> anyhow::Result<()> {
    for _ in 0..connections {
        let stream = dial.connect().await?;
        crew.add(|tally| again(stream, tally));
    }
    Ok(())
}

async fn again(mut stream: Box<dyn Duplex>, tally: Rc<Tally>) -> anyhow::Result<()> {
    let request = format!("GET /page HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    let page = page();
    let mut answer = vec![0; page.len() + 4096];
    while tally.goes_on() {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await.context("sending a request")?;
        stream.flush().await.context("sending a request")?;
        let mut filled = 0;
        while !complete(&answer[..filled], &page)? {
            let read = stream.read(&mut answer[filled..]).await.context("reading an answer")?;
            ensure!(read > 0, "closed after {filled} bytes of an answer");
            filled += read;
        }
        tally.add(begun);
    }
    Ok(())
}

/// Whether an answer is all there.
///
/// # Errors
/// It is not the one that was wanted.
fn complete(answer: &[u8], page: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(false) };
    let (head, body) = answer.split_at(end + 4);
    let length = header(head, "content-length").and_then(|n| n.parse().ok());
    let right = head.starts_with(b"HTTP/1.1 200 ") && length == Some(page.len()) && page.starts_with(body);
    ensure!(right, "an answer is not the page: {}", String::from_utf8_lossy(answer));
    Ok(body.len() == page.len())
}
