//! Does one order.

use std::time::Duration;

use anyhow::Context;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::changes::Changes;
use super::dial::Dial;
use super::order::{Figure, Figures, Order, Work};
use super::tally::Crew;
use super::{echo, idle, requests, upgrades};
use crate::meter::Meter;

/// Payload of the sessions whose messages are not the point.
const SMALL: usize = 125;

/// Does it, and says what was measured.
///
/// # Errors
/// Anything was not answered, byte by byte, as it should have been.
pub(crate) async fn run(order: &Order) -> anyhow::Result<Figures> {
    LocalSet::new().run_until(work(order)).await
}

/// Opens one session, and has one message echoed.
///
/// # Errors
/// That does not work.
pub(crate) async fn probe(order: &Order) -> anyhow::Result<()> {
    let mut dial = Dial::new(order)?;
    let once = async { echo::Session::open(&mut dial, SMALL, 0).await?.echo().await };
    timeout(Duration::from_secs(2), once).await.context("no answer within two seconds")?
}

async fn work(order: &Order) -> anyhow::Result<Figures> {
    let mut crew = Crew::new();
    let mut dial = Dial::new(order)?;
    let bytes = match order.work {
        Work::Idle { sessions } => return idle::weigh(order, sessions).await,
        Work::Echo { sessions, bytes } => {
            echo::busy(&mut crew, &mut dial, sessions, bytes).await?;
            bytes
        }
        Work::Held { busy: sessions, .. } | Work::Changes { sessions, .. } => {
            echo::busy(&mut crew, &mut dial, sessions, SMALL).await?;
            SMALL
        }
        Work::Upgrades { at_once } => {
            upgrades::busy(&mut crew, order, at_once)?;
            0
        }
        Work::Requests { connections } => {
            requests::busy(&mut crew, &mut dial, connections).await?;
            0
        }
    };
    crew.work(Duration::from_millis(order.warm_ms)).await?;
    let window = Duration::from_millis(order.window_ms);
    let figures = match order.work {
        Work::Held { held, .. } => beside_held(&mut crew, order, held, window).await?,
        Work::Changes { per_second, .. } => under_changes(&mut crew, order, per_second, window).await?,
        _ => {
            // Only now have all its children been started.
            let meter = order.metered.map(Meter::new);
            crew.span(meter.as_ref(), window).await?.figures(bytes)
        }
    };
    crew.finish().await?;
    Ok(figures)
}

async fn beside_held(crew: &mut Crew, order: &Order, held: usize, window: Duration) -> anyhow::Result<Figures> {
    let meter = order.metered.map(Meter::new);
    let alone = crew.span(None, window).await?;
    let held = idle::hold(order, held).await?;
    crew.work(Duration::from_millis(order.warm_ms)).await?;
    let beside = crew.span(meter.as_ref(), window).await?;
    drop(held);
    let mut figures = beside.figures(SMALL);
    figures.insert(Figure::HeldRatio, beside.quantile(0.99) / alone.quantile(0.99));
    Ok(figures)
}

/// Alone, under changes, under changes, alone: a drift of the machine falls on both alike.
async fn under_changes(crew: &mut Crew, order: &Order, per_second: u32, window: Duration) -> anyhow::Result<Figures> {
    let admin = order.admin.context("config changes of nobody were ordered")?;
    let before = crew.span(None, window / 2).await?;
    let changes = Changes::start(admin, per_second)?;
    crew.work(Duration::from_millis(order.warm_ms)).await?;
    let (acknowledged, meter) = (changes.acknowledged()?, order.metered.map(Meter::new));
    let during = crew.span(meter.as_ref(), window).await?;
    let acknowledged = changes.acknowledged()? - acknowledged;
    drop(changes);
    crew.work(Duration::from_millis(order.warm_ms)).await?;
    let after = crew.span(None, window / 2).await?;
    let mut figures = during.figures(SMALL);
    figures.insert(Figure::ChangeRatio, during.rate() / f64::midpoint(before.rate(), after.rate()));
    figures.insert(Figure::Changes, f64::from(acknowledged) / window.as_secs_f64());
    Ok(figures)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::spawn_local;

    use super::*;
    use crate::backend;

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// A proxy that changes one bit of what it passes on to the client.
    async fn corrupt(listener: TcpListener, backend: SocketAddr, at: usize) {
        while let Ok((client, _)) = listener.accept().await {
            let (mut client_reads, mut client_writes) = client.into_split();
            let (mut backend_reads, mut backend_writes) = TcpStream::connect(backend).await.unwrap().into_split();
            spawn_local(async move { tokio::io::copy(&mut client_reads, &mut backend_writes).await });
            spawn_local(async move {
                let (mut passed, mut bytes) = (0, [0; 4096]);
                while let Ok(read @ 1..) = backend_reads.read(&mut bytes).await {
                    if let Some(byte) = at.checked_sub(passed).and_then(|at| bytes[..read].get_mut(at)) {
                        *byte ^= 0x10;
                    }
                    passed += read;
                    if client_writes.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    async fn through(work: Work, corrupted: Option<usize>) -> anyhow::Result<Figures> {
        let local = LocalSet::new();
        let (listener, mut target) = listen().await;
        local.spawn_local(backend::accept(listener));
        if let Some(at) = corrupted {
            let (listener, address) = listen().await;
            local.spawn_local(corrupt(listener, target, at));
            target = address;
        }
        let order = Order { target, secure: None, metered: None, admin: None, warm_ms: 10, window_ms: 100, work };
        local.run_until(super::work(&order)).await
    }

    #[tokio::test]
    async fn every_work_is_done_where_nothing_is_in_its_way() {
        let echo = Work::Echo { sessions: 4, bytes: 125 };
        let large = Work::Echo { sessions: 2, bytes: 1 << 20 };
        for work in [echo, large, Work::Upgrades { at_once: 4 }, Work::Requests { connections: 4 }] {
            let figures = through(work, None).await.unwrap();
            assert!(figures[&Figure::PerSecond] > 10.0, "{work:?}: {figures:?}");
            assert!(figures[&Figure::P50Micros] <= figures[&Figure::P99Micros], "{work:?}: {figures:?}");
            assert!(!figures.contains_key(&Figure::CpuMicros), "nobody was metered");
        }
        let held = through(Work::Held { held: 20, busy: 4 }, None).await.unwrap();
        assert!(held[&Figure::HeldRatio] > 0.0);
    }

    #[tokio::test]
    async fn one_wrong_bit_is_noticed_wherever_it_is() {
        let echo = Work::Echo { sessions: 1, bytes: 125 };
        // Bytes 0 to 128 are the handshake's answer, 129 and 130 the first echo's head, 131 to 255 its payload.
        for (work, at, said) in [
            (echo, 10, "the handshake's answer"),
            (echo, 120, "the handshake's answer"),
            (echo, 129, "is not what was sent"),
            (echo, 131, "is not what was sent"),
            (echo, 255, "is not what was sent"),
            (Work::Requests { connections: 1 }, 800, "is not the page"),
        ] {
            let failed = format!("{:#}", through(work, Some(at)).await.unwrap_err());
            assert!(failed.contains(said), "bit at byte {at} of {work:?}: {failed}");
        }
    }
}
