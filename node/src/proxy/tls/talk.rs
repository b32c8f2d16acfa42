//! One end of a TLS conversation, without its socket: records in, plain bytes out, and the other way round. Pure.

use std::fmt;

use bytes::BytesMut;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};

/// See the module. It keeps keys and no bytes: whoever holds it keeps the records that are not whole yet.
pub(super) enum Talk {
    /// We are the server.
    Server(UnbufferedServerConnection),
    /// We are the client.
    Client(UnbufferedClientConnection),
}

/// What was made of some records.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// How many of the bytes are done with.
    pub(super) bytes: usize,
    /// The other side said that it says no more.
    pub(super) ended: bool,
}

/// What one step led to.
enum Next {
    /// There may be more to do with the same bytes.
    Step,
    /// The other side says no more.
    Ended,
    /// Nothing more to do before more records come.
    Rest,
}

impl Talk {
    /// What both sides agreed on.
    pub(super) fn state(&self) -> &CommonState {
        match self {
            Self::Server(talk) => talk,
            Self::Client(talk) => talk,
        }
    }

    /// Takes what is whole of `records`: plain bytes go to `plain`, what must be answered at once is added to `owed`.
    ///
    /// # Errors
    /// The other side broke the rules, or does not prove what it must. What it is to be told of that is in `owed`;
    /// nothing more must be asked of this end.
    pub(super) fn take(
        &mut self,
        records: &mut [u8],
        owed: &mut BytesMut,
        mut plain: impl FnMut(&[u8]),
    ) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        loop {
            let (used, next) = self.step(&mut records[taken.bytes..], owed, &mut plain);
            taken.bytes += used;
            match next {
                Ok(Next::Step) => {}
                Ok(Next::Ended) => taken.ended = true,
                Ok(Next::Rest) => return Ok(taken),
                Err(error) => {
                    // The alert. Not a step more: the next would take what is broken again, and rustls would panic over a
                    // second alert.
                    let _ = self.step(&mut records[taken.bytes..], owed, &mut plain);
                    return Err(error);
                }
            }
        }
    }

    /// Puts `plain` into records, as long as the handshake lets us; the bytes of `room` that they take. `held`: what
    /// [`Talk::take`] left.
    ///
    /// # Errors
    /// The connection cannot be written to any more.
    pub(super) fn seal(&mut self, held: &mut [u8], plain: &[u8], room: &mut [u8]) -> Result<usize, Error> {
        self.write(held, |talk| talk.encrypt(plain, room))
    }

    /// Adds to `owed` that we say no more.
    ///
    /// # Errors
    /// The connection cannot be written to any more.
    pub(super) fn close(&mut self, held: &mut [u8], owed: &mut BytesMut) -> Result<(), Error> {
        let mut room = [0; CLOSING];
        let n = self.write(held, |talk| talk.close(&mut room))?;
        owed.extend_from_slice(&room[..n]);
        Ok(())
    }

    fn step(
        &mut self,
        records: &mut [u8],
        owed: &mut BytesMut,
        plain: impl FnMut(&[u8]),
    ) -> (usize, Result<Next, Error>) {
        match self {
            Self::Server(talk) => follow(talk.process_tls_records(records), owed, plain),
            Self::Client(talk) => follow(talk.process_tls_records(records), owed, plain),
        }
    }

    fn write(
        &mut self,
        held: &mut [u8],
        with: impl FnOnce(&mut dyn Writing) -> Result<usize, EncryptError>,
    ) -> Result<usize, Error> {
        match self {
            Self::Server(talk) => written(talk.process_tls_records(held), with),
            Self::Client(talk) => written(talk.process_tls_records(held), with),
        }
    }
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Client(_) => "Client",
        })
    }
}

/// A warning alert in a record of its own, whatever is still queued before it.
const CLOSING: usize = 1024;

fn follow<D>(
    status: UnbufferedStatus<'_, '_, D>,
    owed: &mut BytesMut,
    mut plain: impl FnMut(&[u8]),
) -> (usize, Result<Next, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let next = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        plain(record.payload);
                    }
                    Err(error) => return (discard, Err(error)),
                }
            }
            Next::Step
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let start = owed.len();
            // Too little room on purpose: that is how it tells how much it needs.
            if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = data.encode(&mut []) {
                owed.resize(start + required_size, 0);
                if let Err(error) = data.encode(&mut owed[start..]) {
                    return (discard, Err(Error::General(error.to_string())));
                }
            }
            Next::Step
        }
        ConnectionState::TransmitTlsData(data) => {
            // It is owed, so it is as good as sent.
            data.done();
            Next::Step
        }
        ConnectionState::PeerClosed => Next::Ended,
        _ => Next::Rest,
    };
    (discard, Ok(next))
}

/// The writing end, whichever side it is.
trait Writing {
    fn encrypt(&mut self, plain: &[u8], room: &mut [u8]) -> Result<usize, EncryptError>;
    fn close(&mut self, room: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<D> Writing for WriteTraffic<'_, D> {
    fn encrypt(&mut self, plain: &[u8], room: &mut [u8]) -> Result<usize, EncryptError> {
        WriteTraffic::encrypt(self, plain, room)
    }

    fn close(&mut self, room: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(room)
    }
}

fn written<D>(
    status: UnbufferedStatus<'_, '_, D>,
    with: impl FnOnce(&mut dyn Writing) -> Result<usize, EncryptError>,
) -> Result<usize, Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut talk) => with(&mut talk).map_err(|e| Error::General(e.to_string())),
        _ => Err(Error::HandshakeNotComplete),
    }
}
