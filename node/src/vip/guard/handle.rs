//! tandemd's end: starts the guard, tells it the ends, sees that it lives.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::clock;
use super::words::{LENGTH, Powers, Word};
use crate::vip::Error;

/// How much later than the fence the guard acts: tandemd does it itself, if it runs.
const GRACE: Duration = Duration::from_millis(5);

/// What makes this program a guard.
#[cfg(not(test))]
const ARGUMENTS: &[&str] = &["guard"];
/// The program is the tests then; see `vip::guarding`.
#[cfg(test)]
const ARGUMENTS: &[&str] = &["vip::guarding::as_guard", "--exact", "--ignored", "--nocapture"];

/// A guard at work. Dropped, it takes off what is left and ends.
#[derive(Debug)]
pub(in crate::vip) struct Guard {
    channel: AsyncFd<Socket>,
    /// Until it is buried.
    child: Option<Child>,
    asked: u64,
}

impl Guard {
    /// Starts one: this very program, anew, even if the file has been replaced since. Nothing of tandemd's memory and none
    /// of its threads is in it, so it may be started at any time, again too.
    ///
    /// # Errors
    /// [`Error::NoGuard`].
    pub(in crate::vip) fn start() -> Result<Self, Error> {
        Self::try_start().map_err(Error::NoGuard)
    }

    fn try_start() -> io::Result<Self> {
        // Datagrams in order, and an end when one side is gone.
        let (ours, its) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        ours.set_nonblocking(true)?;
        // SAFETY: a socket has one descriptor from its beginning to its end, which is that of the `AsyncFd` that owns it.
        #[allow(unsafe_code)]
        let channel = unsafe { AsyncFd::register(ours) }?;
        let child = Command::new("/proc/self/exe")
            .args(ARGUMENTS)
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(its)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { channel, child: Some(child), asked: 0 })
    }

    /// Its process.
    pub(in crate::vip) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// From now on it takes the address off a little after `until`. Never waits; a word that does not get through shows in
    /// [`Guard::confirm`].
    pub(in crate::vip) fn hold(&self, index: u32, address: IpAddr, until: Instant) {
        self.say(Word::Hold { index, address, until: clock::at(until + GRACE) });
    }

    /// It is off.
    pub(in crate::vip) fn forget(&self, address: IpAddr) {
        self.say(Word::Forget(address));
    }

    fn say(&self, word: Word) -> bool {
        self.channel.get_ref().send(&word.bytes()).is_ok()
    }

    /// Whether it is there and has heard all that was said.
    ///
    /// # Errors
    /// [`Error::GuardSilent`].
    pub(in crate::vip) async fn confirm(&mut self, patience: Duration) -> Result<Powers, Error> {
        self.asked += 1;
        let asked = self.asked;
        let silent = Error::GuardSilent { after: patience };
        if !self.say(Word::Ask(asked)) {
            return Err(silent);
        }
        let answer = async {
            loop {
                match self.heard().await {
                    Some(Word::Here(number, powers)) if number == asked => return Some(powers),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        tokio::time::timeout(patience, answer).await.ok().flatten().ok_or(silent)
    }

    /// Returns when it is gone.
    pub(in crate::vip) async fn ended(&self) {
        while self.heard().await.is_some() {}
    }

    /// The next word; `None`: the guard is gone.
    async fn heard(&self) -> Option<Word> {
        let mut bytes = [0; LENGTH];
        loop {
            let mut ready = self.channel.readable().await.ok()?;
            match ready.try_io(|channel| io::Read::read(&mut channel.get_ref(), &mut bytes)) {
                Ok(Ok(0) | Err(_)) => return None,
                // What it does not mean is nothing we wait for.
                Ok(Ok(length)) => {
                    if let Some(word) = Word::of(&bytes[..length]) {
                        return Some(word);
                    }
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Ends one that does not answer. What it was to take off is the next one's.
    pub(in crate::vip) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It ends when the channel is closed, which is after this; waiting for it here could outlast a lease.
        let bury = move || drop(child.wait());
        // Without a thread it stays a zombie until tandemd ends.
        let _ = std::thread::Builder::new().name("guard-end".into()).spawn(bury);
    }
}
