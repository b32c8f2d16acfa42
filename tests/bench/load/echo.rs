//! A session that wants back exactly what it sends.

use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::dial::{Dial, Duplex};
use super::tally::{Crew, Tally};
use crate::chance::Chance;
use crate::frame;

/// The mask of every frame; it is no secret from ourselves.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Bytes at the start of each payload that number it, so that no answer passes for another's.
const NUMBER: usize = 8;

/// One open session.
pub(super) struct Session {
    stream: Box<dyn Duplex>,
    number: u64,
    // Bytes of the answer's head; a client's is longer by its mask.
    head: usize,
    frame: Vec<u8>,
    expected: Vec<u8>,
    answer: Vec<u8>,
}

impl Session {
    /// Opens one whose messages have `bytes` of payload, unlike those of a session with another `seed`.
    ///
    /// # Errors
    /// It does not open.
    pub(super) async fn open(dial: &mut Dial, bytes: usize, seed: u64) -> anyhow::Result<Self> {
        let stream = dial.upgrade().await?;
        let payload = Chance::new(seed).bytes(bytes.max(NUMBER));
        let mut expected = frame::server_head(payload.len());
        let head = expected.len();
        expected.extend(&payload);
        Ok(Self {
            stream,
            number: seed << 32,
            head,
            frame: frame::client_frame(&payload, MASK),
            // One more than is expected, and that is never filled: a byte too many is as wrong as one too few. It also
            // spares a read that would only learn that there is nothing.
            answer: vec![0; expected.len() + 1],
            expected,
        })
    }

    /// Sends a message, and wants every byte of it back.
    ///
    /// # Errors
    /// Anything else comes, or nothing.
    pub(super) async fn echo(&mut self) -> anyhow::Result<()> {
        self.number += 1;
        let number = self.number.to_be_bytes();
        self.expected[self.head..][..NUMBER].copy_from_slice(&number);
        let sent = &mut self.frame[self.head + MASK.len()..][..NUMBER];
        sent.copy_from_slice(&number);
        frame::toggle(sent, MASK);
        self.stream.write_all(&self.frame).await.context("sending a message")?;
        self.stream.flush().await.context("sending a message")?;
        let mut filled = 0;
        while filled < self.expected.len() {
            let read = self.stream.read(&mut self.answer[filled..]).await.context("reading an echo")?;
            ensure!(read > 0, "closed after {filled} bytes of an echo");
            filled += read;
        }
        ensure!(self.answer[..filled] == self.expected, "an echo of {filled} bytes is not what was sent");
        Ok(())
    }
}

/// Adds sessions that are busy all the time.
///
/// # Errors
/// One does not open.
pub(super) async fn busy(crew: &mut Crew, dial: &mut Dial, sessions: usize, bytes: usize) -> anyhow::Result<()> {
    for seed in 0..sessions as u64 {
        let session = Session::open(dial, bytes, seed).await.with_context(|| format!("session {seed}"))?;
        crew.add(|tally| hurry(session, tally));
    }
    Ok(())
}

async fn hurry(mut session: Session, tally: Rc<Tally>) -> anyhow::Result<()> {
    while tally.goes_on() {
        let begun = Instant::now();
        session.echo().await?;
        tally.add(begun);
    }
    Ok(())
}
