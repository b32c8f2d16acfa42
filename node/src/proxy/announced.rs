//! Reads a client's PROXY header, before anything else is read of it, and exactly that.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::peek::{More, peek};
use super::proxy_protocol::{Addresses, LONGEST, Parsed, parse};
use super::table::Listener;
use crate::config::model::ProxyProtocol;

/// Why a client is not let in. Whoever sends the header must mend it, or the operator what is expected of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It may not say who it is.
    #[error(
        "it is not in proxy_from, and this listener requires a PROXY header; add its network, or let it come elsewhere"
    )]
    Stranger,
    /// It began with something else.
    #[error(
        "it begins with \"{0}\", not with a PROXY header; let it send one (HAProxy: send-proxy-v2), or set proxy_protocol to optional or off"
    )]
    Absent(String),
    /// It cannot be believed.
    #[error("its PROXY header is wrong: {why}; it begins with \"{begin}\"; mend whoever sends it")]
    Invalid {
        /// What is wrong with it.
        why: &'static str,
        /// Its first bytes, escaped.
        begin: String,
    },
    /// It took too long.
    #[error("no whole PROXY header came within {0:?}; mend whoever sends it, or set proxy_protocol to off")]
    Slow(Duration),
    /// It closed before it was done; also without a word, as those do that only look whether we listen.
    #[error("it closed before its PROXY header was whole")]
    Closed,
    /// The network's.
    #[error("{0}")]
    Socket(#[from] io::Error),
}

/// Whom the client's PROXY header speaks of; `None`: there is none, or it speaks of nobody.
///
/// # Errors
/// Why it is not let in.
pub(super) async fn announced(
    socket: &mut TcpStream,
    peer: SocketAddr,
    listener: &Listener,
    within: Duration,
) -> Result<Option<Addresses>, Refusal> {
    let ip = peer.ip().to_canonical();
    let believed = listener.proxy_from.iter().any(|network| network.contains(&ip));
    let required = match listener.proxy_protocol {
        ProxyProtocol::Off => return Ok(None),
        ProxyProtocol::Optional if !believed => return Ok(None),
        ProxyProtocol::Optional => false,
        ProxyProtocol::Required if !believed && !listener.proxy_from.is_empty() => return Err(Refusal::Stranger),
        ProxyProtocol::Required => true,
    };
    let reading = tokio::time::timeout(within, read(socket, required));
    reading.await.map_err(|_| Refusal::Slow(within))?
}

async fn read(socket: &mut TcpStream, required: bool) -> Result<Option<Addresses>, Refusal> {
    let mut seen = vec![0; LONGEST];
    let (n, parsed) = peek(socket, &mut seen, |seen, more| match parse(seen) {
        Parsed::Incomplete if more == More::Perhaps => None,
        parsed => Some((seen.len(), parsed)),
    })
    .await?;
    let begin = || seen[..n.min(16)].escape_ascii().to_string();
    match parsed {
        Parsed::Complete { len, said } => {
            // It is there already: the next to read begins behind it.
            socket.read_exact(&mut seen[..len]).await?;
            Ok(said)
        }
        Parsed::Absent if required => Err(Refusal::Absent(begin())),
        Parsed::Absent => Ok(None),
        // Half a beginning and then nothing: to be judged by whoever reads on.
        Parsed::Incomplete if !required => Ok(None),
        Parsed::Incomplete => Err(Refusal::Closed),
        Parsed::Invalid(why) => Err(Refusal::Invalid { why, begin: begin() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::AsyncWriteExt;

    use super::super::tests::rig::pair;
    use super::*;

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.8 5 80\r\n";

    #[tokio::test]
    async fn half_a_header_and_then_the_end_is_found_at_once() {
        for begin in [&HEADER[..20], b""] {
            let (mut client, mut server) = pair().await;
            client.write_all(begin).await.unwrap();
            client.shutdown().await.unwrap();
            let read = tokio::time::timeout(Duration::from_secs(5), read(&mut server, true)).await.expect("at once");
            assert!(matches!(read, Err(Refusal::Closed)), "{read:?}");
        }
    }

    #[tokio::test]
    async fn it_takes_the_header_and_nothing_behind_it() {
        let (mut client, mut server) = pair().await;
        client.write_all(&[HEADER, b"GET"].concat()).await.unwrap();
        read(&mut server, true).await.unwrap().unwrap();
        let mut next = [0; 3];
        server.read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"GET");
    }
}
