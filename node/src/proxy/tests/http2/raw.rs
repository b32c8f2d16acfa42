//! A client of HTTP/2 without manners: frames as they are asked for, fields without a look at them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::tests::rig::{PATIENCE, Rig};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields as literals that leave the table alone (RFC 7541 section 6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|n| *n < 127).expect("short enough for one byte"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// What became of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Answered: the first byte of a header block that begins with the status, as this server writes it, and the data.
    Answered(String),
    /// Reset, with the reason.
    Reset(u32),
    /// The whole connection ended, with a reason if GOAWAY named one.
    Gone(Option<u32>),
}

/// A connection.
pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    /// Sends the preface and empty settings.
    pub(super) async fn connect(rig: &Rig) -> Self {
        let mut socket = rig.connect().await;
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        socket.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
        Self(socket)
    }

    /// Whether everything could be written.
    pub(super) async fn send(&mut self, frames: &[Vec<u8>]) -> bool {
        self.0.write_all(&frames.concat()).await.is_ok()
    }

    /// Reads on until it is known what became of a stream.
    pub(super) async fn fate(&mut self, stream: u32) -> Fate {
        tokio::time::timeout(PATIENCE, self.read(stream)).await.expect("the stream has an end")
    }

    async fn read(&mut self, wanted: u32) -> Fate {
        let (mut answer, mut gone) = (String::new(), None);
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return Fate::Gone(gone);
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            if self.0.read_exact(&mut payload).await.is_err() {
                return Fate::Gone(gone);
            }
            let reason = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                GOAWAY => gone = Some(reason(4)),
                RST_STREAM if stream == wanted => return Fate::Reset(reason(0)),
                DATA if stream == wanted => answer.push_str(&String::from_utf8_lossy(&payload)),
                _ => {}
            }
            if stream == wanted && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Fate::Answered(answer);
            }
        }
    }
}
