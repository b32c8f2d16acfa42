//! A TCP connection whose bytes go in TLS records, for those who read and write plain ones.
//!
//! At rest it owns no buffer: records are read and written in two rooms that all connections of a thread share. What
//! stays with a connection is half a record, plain bytes nobody has taken yet, and records the socket did not take yet;
//! each for as long as it lasts.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::shown::{self, Vouched};
use super::talk::Talk;

/// The most plain bytes of one write.
const PIECE: usize = 64 * 1024;
/// For what a write's records are larger than what they carry: 22 to 40 bytes for each 16 KiB, and what is queued before.
const OVERHEAD: usize = 4 * 1024;
/// Bytes of records that one read takes, and as many again as half a handshake message may have before it.
const ROOM: usize = 128 * 1024;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into_boxed_slice());
    static WRITTEN: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE + OVERHEAD].into_boxed_slice());
}

/// See the module. A write that succeeded may not be with the kernel yet: flush, before waiting for something else.
#[derive(Debug)]
pub(in crate::proxy) struct Secured {
    socket: TcpStream,
    talk: Talk,
    /// Of a record or message that is not whole yet.
    half: BytesMut,
    /// Nobody has taken it yet.
    plain: BytesMut,
    /// Records that the socket did not take yet.
    owed: BytesMut,
    /// What the end of the stream means without a word of it.
    cut: Cut,
    ended: bool,
    closed: bool,
    /// The other side broke the rules: nothing more is read, written or said.
    broken: bool,
    /// What the client was shown, if we are the server.
    vouched: Option<Vouched>,
}

/// What it means that a connection ends without the alert that says so (RFC 8446 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It ended: what clients say has its own ends, and many close like that.
    End,
    /// It was cut off: an answer may end with its stream.
    Failure,
}

impl Secured {
    /// Nothing is said yet.
    pub(super) fn new(socket: TcpStream, talk: Talk, cut: Cut) -> Self {
        Self {
            socket,
            talk,
            half: BytesMut::new(),
            plain: BytesMut::new(),
            owed: BytesMut::new(),
            cut,
            ended: false,
            closed: false,
            broken: false,
            vouched: None,
        }
    }

    /// Speaks until both sides know each other.
    ///
    /// # Errors
    /// Why they do not; what the other side must know of that is sent.
    pub(super) async fn shake_hands(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    /// The protocol that was agreed on (RFC 7301).
    pub(in crate::proxy) fn protocol(&self) -> Option<&[u8]> {
        self.talk.state().alpn_protocol()
    }

    /// Whether an earlier connection was resumed.
    pub(in crate::proxy) fn is_resumed(&self) -> bool {
        self.talk.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What the client was shown; of an HTTP/2 connection, and once.
    pub(in crate::proxy) fn vouched(&mut self) -> Option<Vouched> {
        self.vouched.take()
    }

    /// The bare socket. What was read and not taken is lost.
    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.talk.state().is_handshaking() && self.owed.is_empty() {
            // A client has the first word.
            self.take(&mut [], None)?;
        }
        loop {
            ready!(self.poll_owed(cx))?;
            if !self.talk.state().is_handshaking() {
                // Only such a connection is used for other hosts (RFC 9113 section 9.1.1); the rest keep no key for nothing.
                self.vouched = self.vouched.take().filter(|_| self.protocol() == Some(b"h2"));
                return Poll::Ready(Ok(()));
            }
            let read = self.poll_records(cx, None);
            // At once: others shake hands on this thread, too.
            self.vouched = shown::last().or(self.vouched.take());
            if ready!(read)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads once and takes what is whole; plain bytes go to `buf` as far as they fit. How many bytes were read: zero is
    /// the end of the stream.
    fn poll_records(&mut self, cx: &mut Context<'_>, buf: Option<&mut ReadBuf<'_>>) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        READ.with_borrow_mut(|room| {
            let held = self.half.len();
            if held == room.len() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a handshake message is too large",
                )));
            }
            let mut read = ReadBuf::new(&mut room[held..]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            let n = read.filled().len();
            if n > 0 {
                room[..held].copy_from_slice(&self.half);
                self.half = BytesMut::new();
                let taken = self.take(&mut room[..held + n], buf);
                // What it must be told, also of what is wrong with it; if not now, then with the next write.
                let _ = self.poll_owed(cx);
                let left = taken?;
                self.half.extend_from_slice(&room[left..held + n]);
            }
            Poll::Ready(Ok(n))
        })
    }

    /// How many bytes of `records` are done with.
    fn take(&mut self, records: &mut [u8], mut buf: Option<&mut ReadBuf<'_>>) -> io::Result<usize> {
        let (talk, kept) = (&mut self.talk, &mut self.plain);
        let taken = talk.take(records, &mut self.owed, |plain| {
            let now = buf.as_mut().map_or(0, |buf| {
                let n = if kept.is_empty() { plain.len().min(buf.remaining()) } else { 0 };
                buf.put_slice(&plain[..n]);
                n
            });
            kept.extend_from_slice(&plain[now..]);
        });
        self.broken = taken.is_err();
        let taken = taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.ended |= taken.ended;
        Ok(taken.bytes)
    }

    /// Sends what is owed.
    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.owed.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.owed.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.owed))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.owed.advance(n),
            }
        }
        self.owed = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.plain.is_empty() {
            let n = this.plain.len().min(buf.remaining());
            buf.put_slice(&this.plain[..n]);
            this.plain.advance(n);
            if this.plain.is_empty() {
                this.plain = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        while !this.ended && buf.remaining() > 0 {
            if ready!(this.poll_records(cx, Some(buf)))? == 0 {
                if this.cut == Cut::Failure {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                this.ended = true;
            }
            if buf.filled().len() > before {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_owed(cx))?;
        if this.broken || this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let piece = &buf[..buf.len().min(PIECE)];
        WRITTEN.with_borrow_mut(|room| {
            let sealed = this.talk.seal(&mut this.half, piece, room);
            let n = sealed.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
            let mut sent = 0;
            while sent < n {
                match Pin::new(&mut this.socket).poll_write(cx, &room[sent..n]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(more)) => sent += more,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        this.owed.extend_from_slice(&room[sent..n]);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(piece.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_owed(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.closed, true) && !this.broken {
            // One that cannot say goodbye any more is closed all the same.
            let _ = this.talk.close(&mut this.half, &mut this.owed);
        }
        ready!(this.poll_owed(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::time::Duration;

    use rcgen::generate_simple_self_signed;
    use rustls::client::UnbufferedClientConnection;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::UnbufferedServerConnection;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::super::tests::rig::pair;
    use super::*;

    /// Both ends of a connection that know each other: the client's, the server's.
    async fn ends() -> (Secured, Secured) {
        let provider = Arc::new(default_provider());
        let made = generate_simple_self_signed(["a".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = server.unwrap().with_no_client_auth();
        let server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let (near, far) = pair().await;
        let talk = UnbufferedClientConnection::new(Arc::new(client), "a".try_into().unwrap()).unwrap();
        let mut client = Secured::new(near, Talk::Client(talk), Cut::Failure);
        let talk = UnbufferedServerConnection::new(Arc::new(server)).unwrap();
        let mut server = Secured::new(far, Talk::Server(talk), Cut::End);
        let (one, other) = tokio::join!(client.shake_hands(), server.shake_hands());
        one.unwrap();
        other.unwrap();
        (client, server)
    }

    fn owns_nothing(end: &Secured) -> bool {
        end.half.capacity() + end.plain.capacity() + end.owed.capacity() == 0
    }

    #[tokio::test]
    async fn at_rest_it_owns_no_buffer_and_a_small_room_loses_nothing() {
        let (mut client, mut server) = ends().await;
        let said: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let writing = async {
            server.write_all(&said).await.unwrap();
            server.flush().await.unwrap();
        };
        let mut heard = vec![0; said.len()];
        let reading = async {
            // Odd pieces: plain bytes stay behind, and records come in halves.
            for piece in heard.chunks_mut(777) {
                client.read_exact(piece).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(writing, reading) }).await.unwrap();
        assert!(heard == said);
        client.write_all(b"thanks").await.unwrap();
        server.read_exact(&mut [0; 6]).await.unwrap();
        assert!(owns_nothing(&client) && owns_nothing(&server), "{client:?} {server:?}");
    }

    #[tokio::test]
    async fn each_side_ends_by_itself_and_a_cut_is_told_from_an_end() {
        let (mut client, mut server) = ends().await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0);
        server.write_all(b"last words").await.unwrap();
        server.shutdown().await.unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "last words");

        let (client, mut server) = ends().await;
        client.into_socket().shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0, "clients close like that");
        let (mut client, server) = ends().await;
        drop(server);
        assert_eq!(client.read(&mut [0; 9]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_was_changed_on_the_way_ends_the_connection_once() {
        let (client, mut server) = ends().await;
        let mut bare = client.into_socket();
        // An application record of zeros, twice.
        let bad = [&[23, 3, 3, 0, 40][..], &[0; 40]].concat().repeat(2);
        bare.write_all(&bad).await.unwrap();
        for _ in 0..3 {
            assert_eq!(server.read(&mut [0; 9]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(server.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        server.shutdown().await.unwrap();
        let mut alert = Vec::new();
        bare.read_to_end(&mut alert).await.unwrap();
        assert!(!alert.is_empty(), "it is told");
    }
}
