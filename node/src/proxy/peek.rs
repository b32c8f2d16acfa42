//! Looks at a client's first bytes without taking them.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Whether more bytes may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    /// They may.
    Perhaps,
    /// These are all there will ever be.
    No,
}

/// What `judge` makes of the first bytes, as many as fit into `room`; asked again with more of them while it says `None`.
/// It sleeps while nothing new has come, also when some bytes are there already: the event queue tells of new ones only.
///
/// # Errors
/// The network's; `UnexpectedEof` if `judge` cannot make anything of all there is.
pub(super) async fn peek<T>(
    socket: &TcpStream,
    room: &mut [u8],
    mut judge: impl FnMut(&[u8], More) -> Option<T>,
) -> io::Result<T> {
    loop {
        // A socket whose other side is closed is ready for ever: then there is no second look.
        let closed = socket.ready(Interest::READABLE).await?.is_read_closed();
        let looked = socket.try_io(Interest::READABLE, || {
            let (n, _) = recv(socket, &mut *room, RecvFlags::PEEK)?;
            let more = if closed || n == 0 { More::No } else { More::Perhaps };
            match (judge(&room[..n], more), more) {
                (Some(judged), _) => Ok(judged),
                (None, More::Perhaps) => Err(io::ErrorKind::WouldBlock.into()),
                (None, More::No) => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            looked => return looked,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};
    use tokio::io::AsyncWriteExt;

    use super::super::tests::rig::pair;
    use super::*;

    /// What this thread has worked so far.
    fn busy() -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
    }

    fn four(seen: &[u8], _: More) -> Option<Vec<u8>> {
        (seen.len() == 4).then(|| seen.to_vec())
    }

    #[tokio::test]
    async fn it_sleeps_while_there_is_too_little() {
        let (mut client, server) = pair().await;
        client.write_all(b"ab").await.unwrap();
        let before = busy();
        let mut room = [0; 4];
        let looking = tokio::time::timeout(Duration::from_millis(500), peek(&server, &mut room, four)).await;
        assert!(looking.is_err());
        let busy = busy() - before;
        assert!(busy < Duration::from_millis(100), "it was busy for {busy:?} of 500 ms");
        client.write_all(b"cd").await.unwrap();
        assert_eq!(peek(&server, &mut room, four).await.unwrap(), b"abcd");
        assert_eq!(peek(&server, &mut room, four).await.unwrap(), b"abcd", "nothing was taken");
    }

    #[tokio::test]
    async fn the_end_is_found_at_once() {
        for begin in [b"ab".as_slice(), b""] {
            let (mut client, server) = pair().await;
            client.write_all(begin).await.unwrap();
            client.shutdown().await.unwrap();
            let mut room = [0; 4];
            let looked = tokio::time::timeout(Duration::from_secs(5), peek(&server, &mut room, four)).await;
            assert_eq!(looked.expect("at once").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
