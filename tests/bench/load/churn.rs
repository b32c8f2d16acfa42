//! Sessions that come, speak in messages of all sizes, and go in every way a client has.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::dial::{Dial, Duplex};
use super::order::Order;
use crate::chance::Chance;
use crate::frame;

/// The mask of every frame; it is no secret from ourselves.
const MASK: [u8; 4] = [0x5a, 0x0c, 0xe1, 0x96];
/// Sizes are drawn by octaves, so that small messages are as frequent as they are in life: 16 B to 256 KiB.
const OCTAVES: std::ops::Range<u64> = 4..18;
/// Messages of one session, at most.
const MESSAGES: u64 = 20;
/// The longest pause before a message.
const PAUSE_MS: u64 = 2_000;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Failures that are kept to be told; all are counted.
const TOLD: usize = 8;

/// What a crowd has done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Sessions opened.
    pub(crate) sessions: Cell<u64>,
    /// Messages that came back.
    pub(crate) messages: Cell<u64>,
    /// Their payload, one way.
    pub(crate) bytes: Cell<u64>,
    /// Bytes that came back other than they were sent.
    pub(crate) corrupt: Cell<u64>,
    /// Sessions that did not open, or broke before their client ended them.
    pub(crate) broken: Cell<u64>,
    /// The first of those failures.
    pub(crate) failures: RefCell<Vec<String>>,
}

/// Clients that open a session, use it, end it, and begin anew.
pub(crate) struct Crowd {
    done: Rc<Done>,
    stopped: Rc<Cell<bool>>,
    clients: JoinSet<()>,
}

impl Done {
    fn broke(&self, why: &anyhow::Error) {
        add(&self.broken, 1);
        let mut failures = self.failures.borrow_mut();
        if failures.len() < TOLD {
            failures.push(format!("{why:#}"));
        }
    }
}

/// How a client ends its session.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// It says that nothing more comes, and hears the other side out.
    InOrder,
    /// It is gone.
    Suddenly,
    /// It is gone while a message is on its way.
    InTheMiddle,
}

impl Crowd {
    /// So many clients at once. Must be called inside a `LocalSet`.
    ///
    /// # Errors
    /// The order's certificate is no such thing.
    pub(crate) fn gather(order: &Order, clients: usize) -> anyhow::Result<Self> {
        let mut crowd = Self { done: Rc::default(), stopped: Rc::default(), clients: JoinSet::new() };
        for seed in 0..clients as u64 {
            let dial = Dial::new(order)?;
            crowd.clients.spawn_local(come_and_go(dial, seed, Rc::clone(&crowd.done), Rc::clone(&crowd.stopped)));
        }
        Ok(crowd)
    }

    /// What it has done so far.
    pub(crate) fn done(&self) -> &Done {
        &self.done
    }

    /// Lets each end its session when it next pauses; what all have done then.
    ///
    /// # Errors
    /// One does not come to its end.
    pub(crate) async fn leave(mut self) -> anyhow::Result<Rc<Done>> {
        self.stopped.set(true);
        let all = async {
            while let Some(ended) = self.clients.join_next().await {
                ended?;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE * 2, all).await.context("a client does not come to its end")??;
        Ok(self.done)
    }
}

async fn come_and_go(mut dial: Dial, seed: u64, done: Rc<Done>, stopped: Rc<Cell<bool>>) {
    let mut chance = Chance::new(seed);
    // All at once would only measure the accept queue.
    pause(&mut chance).await;
    while !stopped.get() {
        if let Err(e) = session(&mut dial, &mut chance, &done, &stopped).await {
            done.broke(&e);
            // Whoever cannot be reached is not asked without end.
            pause(&mut chance).await;
        }
    }
}

async fn session(dial: &mut Dial, chance: &mut Chance, done: &Done, stopped: &Cell<bool>) -> anyhow::Result<()> {
    let mut stream = timeout(PATIENCE, dial.upgrade()).await.context("the handshake is not answered")??;
    add(&done.sessions, 1);
    for _ in 0..=chance.below(MESSAGES) {
        pause(chance).await;
        if stopped.get() {
            break;
        }
        timeout(PATIENCE, echo(&mut stream, chance, done)).await.context("an echo does not come")??;
    }
    let leaving = [Leaving::InOrder, Leaving::Suddenly, Leaving::InTheMiddle][usize::try_from(chance.below(3))?];
    timeout(PATIENCE, leave(stream, leaving, chance)).await.with_context(|| format!("leaving {leaving:?}"))?
}

async fn pause(chance: &mut Chance) {
    sleep(Duration::from_millis(chance.below(PAUSE_MS))).await;
}

fn payload(chance: &mut Chance) -> Vec<u8> {
    let octave = OCTAVES.start + chance.below(OCTAVES.end - OCTAVES.start);
    let size = (1 << octave) + chance.below((1 << octave) + 1);
    chance.bytes(usize::try_from(size).unwrap_or(usize::MAX))
}

async fn echo(stream: &mut Box<dyn Duplex>, chance: &mut Chance, done: &Done) -> anyhow::Result<()> {
    let payload = payload(chance);
    let mut expected = frame::server_head(payload.len());
    expected.extend(&payload);
    // Read while it is written: else both sides could wait for room.
    let (mut from, mut to) = tokio::io::split(stream);
    let mut answer = vec![0; expected.len()];
    let (sent, heard) = tokio::join!(
        async {
            to.write_all(&frame::client_frame(&payload, MASK)).await.context("sending a message")?;
            to.flush().await.context("sending a message")
        },
        async { from.read_exact(&mut answer).await.context("reading an echo") },
    );
    sent.and(heard)?;
    let wrong = answer.iter().zip(&expected).filter(|(heard, meant)| heard != meant).count() as u64;
    add(&done.corrupt, wrong);
    ensure!(wrong == 0, "{wrong} bytes of an echo of {} are not what was sent", payload.len());
    add(&done.messages, 1);
    add(&done.bytes, payload.len() as u64);
    Ok(())
}

async fn leave(mut stream: Box<dyn Duplex>, how: Leaving, chance: &mut Chance) -> anyhow::Result<()> {
    match how {
        Leaving::Suddenly => {}
        Leaving::InTheMiddle => stream.write_all(&frame::client_frame(&payload(chance), MASK)).await?,
        Leaving::InOrder => {
            stream.shutdown().await?;
            let more = stream.read(&mut [0]).await?;
            ensure!(more == 0, "the other side says more than it was asked");
        }
    }
    Ok(())
}

fn add(count: &Cell<u64>, n: u64) {
    count.set(count.get() + n);
}
