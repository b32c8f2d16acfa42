//! Starts a contender in a fresh process, and waits until it does its work.

use std::cell::RefCell;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tandem_tests::clock::until;
use tempfile::TempDir;

use super::{Contender, envoy, haproxy, nginx, tandem};
use crate::certificate::Certificate;
use crate::load::{self, Order};
use crate::process::{PROXY_CORE, Process};

/// How long a contender may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all contenders find.
pub(crate) struct Stage {
    /// Whom they proxy to.
    pub(crate) backends: Vec<SocketAddr>,
    /// What they show.
    pub(crate) certificate: Certificate,
    /// File descriptors that one process may have.
    pub(crate) descriptors: u64,
}

/// What one of them is told.
pub(super) struct Place<'a> {
    pub(super) stage: &'a Stage,
    /// For its files; its own.
    pub(super) dir: &'a Path,
    /// Where clients come to.
    pub(super) listen: SocketAddr,
    /// Shown there; none: plain.
    pub(super) certificate: Option<&'a Certificate>,
}

/// A contender that answers.
pub(crate) struct Running {
    process: Option<Process>,
    /// Where clients come to.
    pub(crate) target: SocketAddr,
    /// Where its config is changed.
    pub(crate) admin: Option<SocketAddr>,
    log: PathBuf,
    dir: TempDir,
}

impl Stage {
    /// Starts one. It does what `ask` orders by the time this returns.
    ///
    /// # Errors
    /// It does not come to answer.
    pub(crate) async fn enter(&self, contender: Contender, ask: &Order) -> anyhow::Result<Running> {
        let dir = tempfile::Builder::new().prefix("bench-peers-").tempdir()?;
        let listen = free_address()?;
        let certificate = ask.secure.is_some().then_some(&self.certificate);
        let place = Place { stage: self, dir: dir.path(), listen, certificate };
        let mut admin = None;
        let command = match contender {
            Contender::Nobody => None,
            Contender::Nginx => Some(nginx::command(&place, nginx::Buffers::Stock)?),
            Contender::NginxTuned => Some(nginx::command(&place, nginx::Buffers::Large)?),
            Contender::Haproxy => Some(haproxy::command(&place, haproxy::Buffers::Stock)?),
            Contender::HaproxyTuned => Some(haproxy::command(&place, haproxy::Buffers::Large)?),
            Contender::Envoy => Some(envoy::command(&place)?),
            Contender::Tandem => Some(tandem::command(&place, *admin.insert(free_address()?), tandem::How::Usual)?),
            Contender::TandemBusyPoll => {
                Some(tandem::command(&place, *admin.insert(free_address()?), tandem::How::Polling)?)
            }
            Contender::TandemFrames => {
                Some(tandem::command(&place, *admin.insert(free_address()?), tandem::How::Frames)?)
            }
        };
        let log = dir.path().join("log");
        let out = File::create(&log)?;
        let process = match command {
            Some(mut command) => {
                command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
                Some(Process::start(&mut command, PROXY_CORE)?)
            }
            None => None,
        };
        let target = if process.is_some() { listen } else { *self.backends.first().context("no backends")? };
        let mut running = Running { process, target, admin, log, dir };
        if let Some(admin) = admin {
            let configured = tandem::configure(running.dir.path(), admin, certificate).await;
            configured.map_err(|e| running.blamed(&e))?;
        }
        running.answers(ask).await.map_err(|e| running.blamed(&e))?;
        Ok(running)
    }
}

impl Running {
    /// The root of its processes.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    async fn answers(&mut self, ask: &Order) -> anyhow::Result<()> {
        let order = Order { target: self.target, ..ask.clone() };
        let last = RefCell::new(String::new());
        let process = RefCell::new(&mut self.process);
        let answered = until("an answer", PATIENCE, || async {
            if let Some(Ok(Some(status))) = process.borrow_mut().as_mut().map(Process::ended) {
                return Some(Err(anyhow::anyhow!("it has ended by itself: {status}")));
            }
            match load::probe(&order).await {
                Ok(()) => Some(Ok(())),
                Err(e) => {
                    last.replace(format!("{e:#}"));
                    None
                }
            }
        });
        answered.await.with_context(|| last.take())?
    }

    /// A failure, with what it said before.
    pub(crate) fn blamed(&self, failure: &anyhow::Error) -> anyhow::Error {
        anyhow::anyhow!("{failure:#}; {}", self.last_words())
    }

    fn last_words(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        match &lines[lines.len().saturating_sub(12)..] {
            [] => "it said nothing".to_owned(),
            last => format!("it said last:\n{}", last.join("\n")),
        }
    }

    /// Ends it.
    pub(crate) async fn leave(mut self) {
        if let Some(process) = self.process.take() {
            process.stop().await;
        }
    }
}

/// An address on loopback that is free now: a fresh port each time, so that no run meets the last one's TIME_WAIT.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
