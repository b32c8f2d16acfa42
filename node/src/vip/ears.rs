//! Whether somebody else says to have one of our addresses.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::Poll;

use tokio::io::unix::AsyncFd;

use super::Error;
use super::ethernet::{Ear, Mac};

/// One for each address that is held, or about to be.
#[derive(Debug, Default)]
pub(super) struct Ears(BTreeMap<IpAddr, (i32, AsyncFd<Ear>)>);

impl Ears {
    /// Listens for this address on the interface of this index, if it does not yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(&mut self, index: i32, address: IpAddr) -> Result<(), Error> {
        if self.0.get(&address).is_none_or(|(known, _)| *known != index) {
            let what = "listen for others with the same address (AF_PACKET)";
            let ear = watched(Ear::open(index, address)?).map_err(|source| Error::Refused { what, source })?;
            self.close(address);
            self.0.insert(address, (index, ear));
        }
        Ok(())
    }

    /// Listens no more.
    pub(super) fn close(&mut self, address: IpAddr) {
        if let Some((_, ear)) = self.0.remove(&address) {
            let ear = ear.into_inner();
            // The kernel closes it only when no processor can still be handing it a frame: 8 to 18 ms were measured, and no
            // address may wait for that.
            drop(tokio::task::spawn_blocking(move || drop(ear)));
        }
    }

    /// The next who is not `me`. May be dropped and called again.
    pub(super) async fn next(&self, me: Mac) -> (IpAddr, Mac) {
        poll_fn(|cx| {
            for (address, (_, ear)) in &self.0 {
                while let Poll::Ready(Ok(mut ready)) = ear.poll_read_ready(cx) {
                    match ready.try_io(|ear| ear.get_ref().hear()) {
                        Ok(Ok(Some(mac))) if mac != me => return Poll::Ready((*address, mac)),
                        Ok(Ok(_)) | Err(_) => {}
                        // The interface is down or gone: it says so once, or for ever.
                        Ok(Err(_)) => ready.clear_ready(),
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Part of the runtime's waiting.
#[allow(unsafe_code)]
fn watched(ear: Ear) -> io::Result<AsyncFd<Ear>> {
    // SAFETY: an ear has one socket from its beginning to its end, which is that of the `AsyncFd` that owns it.
    Ok(unsafe { AsyncFd::register(ear) }?)
}
