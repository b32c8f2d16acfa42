//! Finds where frames begin and end in one direction of a WebSocket (RFC 6455 section 5). Pure, and payload is not looked at.
//!
//! ```text
//!  head ── data ──► payload passes by, however it is cut ──► head
//!    ├──── control ──► held until it is whole, since it may be the answer to one of ours ──► head
//!    └──── neither ──► broken, and nothing of that frame has passed: the receiver stands between two frames
//! ```

use std::fmt;
use std::num::NonZeroU32;

/// The longest head: two bytes, eight of length, four of mask.
const LONGEST_HEAD: usize = 14;
/// The most payload of a control frame (section 5.5).
pub(super) const MOST_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// Set on the first frame of a message that is compressed (RFC 7692 section 6).
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;
/// Opcodes from here on are those of control frames.
const CONTROL: u8 = 0x8;

/// What client and backend have agreed on beyond RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Extension {
    /// Nothing.
    None,
    /// permessage-deflate (RFC 7692).
    Deflate,
    /// Something that is not known here: its bits may mean anything.
    Unknown,
}

impl Extension {
    /// By the value of Sec-WebSocket-Extensions in the answer.
    pub(in crate::proxy) fn agreed<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let names = values.flat_map(|v| v.split(|b| *b == b',')).map(|one| {
            let name = one.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"permessage-deflate") { Self::Deflate } else { Self::Unknown }
        });
        names.fold(Self::None, |all, one| if all == Self::Unknown { all } else { one })
    }
}

/// What holds for the frames of one direction.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Rules {
    /// Whether they must be masked: a client's must, a backend's must not be (section 5.1).
    pub(in crate::proxy) masked: bool,
    pub(in crate::proxy) extension: Extension,
    /// The most payload of a frame, in bytes as they are on the wire; `None`: any.
    pub(in crate::proxy) max_frame: Option<NonZeroU32>,
    /// The same of all frames of a message.
    pub(in crate::proxy) max_message: Option<NonZeroU32>,
}

/// Where a pass may end before its bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Until {
    /// Nowhere.
    End,
    /// Behind the first frame that ends.
    Boundary,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) enum Piece {
    /// So many bytes may go on; so many messages begin in them.
    Pass { bytes: usize, messages: u32 },
    /// A whole control frame of so many bytes.
    Control { bytes: usize, frame: Control },
    /// What cannot be judged before more of it is there: less than a control frame can have.
    Short,
    /// A message, and none may begin.
    Held,
}

/// A control frame.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::proxy) struct Control {
    pub(in crate::proxy) kind: Kind,
    payload: [u8; MOST_CONTROL],
    length: u8,
}

impl Control {
    /// Without its mask.
    pub(in crate::proxy) fn payload(&self) -> &[u8] {
        &self.payload[..self.length.into()]
    }

    /// The code of a Close (section 7.4); 1005 if it has none.
    pub(super) fn code(&self) -> u16 {
        self.payload().first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.kind, self.payload().escape_ascii().to_string())
    }
}

/// What a control frame is for (section 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Kind {
    Close,
    Ping,
    Pong,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum Fault {
    /// Section 5.1.
    #[error("a frame without a mask")]
    Unmasked,
    /// Section 5.1.
    #[error("a frame with a mask")]
    Masked,
    /// Section 5.2.
    #[error("a frame with a reserved bit that no extension gives a meaning")]
    ReservedBit,
    /// Section 5.2.
    #[error("a frame of a kind that does not exist")]
    Opcode,
    /// Section 5.5.
    #[error("a control frame of more than 125 bytes")]
    LongControl,
    /// Section 5.5.
    #[error("a control frame in pieces")]
    ControlInPieces,
    /// Section 5.4.
    #[error("the continuation of nothing")]
    Continuation,
    /// Section 5.4.
    #[error("a message inside another one")]
    Interleaved,
    /// Section 5.2.
    #[error("a length that is not in its shortest form")]
    LongForm,
    /// Section 5.2.
    #[error("a length of 2^63 bytes or more")]
    Endless,
    /// Of our own: max_frame.
    #[error("a frame larger than max_frame")]
    LargeFrame,
    /// Of our own: max_message.
    #[error("a message larger than max_message")]
    LargeMessage,
}

impl Fault {
    /// What its sender is closed with (section 7.4.1).
    pub(in crate::proxy) fn code(self) -> u16 {
        if matches!(self, Self::LargeFrame | Self::LargeMessage) { 1009 } else { 1002 }
    }
}

/// A frame that is none, and what it began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Broken {
    pub(in crate::proxy) fault: Fault,
    head: [u8; LONGEST_HEAD],
    length: u8,
}

impl Broken {
    fn at(bytes: &[u8], fault: Fault) -> Self {
        let mut head = [0; LONGEST_HEAD];
        let known = bytes.iter().zip(&mut head).map(|(from, to)| *to = *from).count();
        Self { fault, head, length: u8::try_from(known).unwrap_or(0) }
    }

    /// Its first bytes: the head, and of a short frame what follows it.
    pub(in crate::proxy) fn head(&self) -> &[u8] {
        &self.head[..self.length.into()]
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::proxy) struct Scanner {
    rules: Rules,
    /// Payload of the frame under way that has not come by yet.
    left: u64,
    /// Payload of the frames of the message under way, if more of them are to come.
    message: Option<u64>,
}

/// The head of a frame, whole.
struct Head {
    first: u8,
    key: [u8; 4],
    length: u64,
    bytes: usize,
}

impl Scanner {
    pub(in crate::proxy) fn new(rules: Rules) -> Self {
        Self { rules, left: 0, message: None }
    }

    /// Whether all that passed are whole frames, so that another one may stand here.
    pub(in crate::proxy) fn at_boundary(&self) -> bool {
        self.left == 0
    }

    /// What `bytes` begin with: those that follow what passed before, or stood there as a control frame. `messages`: how
    /// many may begin.
    ///
    /// # Errors
    /// What is no frame stands at the very beginning. Nothing may be asked from then on.
    pub(in crate::proxy) fn next(&mut self, bytes: &[u8], until: Until, messages: u32) -> Result<Piece, Broken> {
        let (mut at, mut begun) = (0, 0);
        loop {
            let there = bytes.len() - at;
            let passing = usize::try_from(self.left).unwrap_or(usize::MAX).min(there);
            self.left -= passing as u64;
            at += passing;
            let rest = &bytes[at..];
            if at > 0 && (rest.is_empty() || until == Until::Boundary) {
                return Ok(Piece::Pass { bytes: at, messages: begun });
            }
            let passed = (at > 0).then_some(Piece::Pass { bytes: at, messages: begun });
            let head = match self.head(rest) {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(passed.unwrap_or(Piece::Short)),
                // What came before it is whole; it is asked for again.
                Err(fault) => return passed.ok_or_else(|| Broken::at(rest, fault)),
            };
            if head.first & CONTROL != 0 {
                return Ok(passed.unwrap_or_else(|| control(&head, rest)));
            }
            if self.message.is_none() {
                if begun == messages {
                    return Ok(passed.unwrap_or(Piece::Held));
                }
                begun += 1;
            }
            let so_far = self.message.unwrap_or(0).saturating_add(head.length);
            self.message = (head.first & FIN == 0).then_some(so_far);
            self.left = head.length;
            at += head.bytes;
        }
    }

    /// The head at the beginning, if it is all there, and right.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        self.kind(*first)?;
        match (self.rules.masked, second & MASKED != 0) {
            (true, false) => return Err(Fault::Unmasked),
            (false, true) => return Err(Fault::Masked),
            _ => {}
        }
        let short = second & !MASKED;
        if first & CONTROL != 0 && usize::from(short) > MOST_CONTROL {
            return Err(Fault::LongControl);
        }
        let (length, rest, least) = match short {
            126 => match rest.split_first_chunk() {
                Some((long, rest)) => (u16::from_be_bytes(*long).into(), rest, 126),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((long, rest)) => (u64::from_be_bytes(*long), rest, 1 << 16),
                None => return Ok(None),
            },
            short => (u64::from(short), rest, 0),
        };
        if length >> 63 != 0 {
            return Err(Fault::Endless);
        }
        if length < least {
            return Err(Fault::LongForm);
        }
        self.size(*first, length)?;
        let (key, rest) = match rest.split_first_chunk() {
            _ if !self.rules.masked => ([0; 4], rest),
            Some((key, rest)) => (*key, rest),
            None => return Ok(None),
        };
        Ok(Some(Head { first: *first, key, length, bytes: bytes.len() - rest.len() }))
    }

    fn kind(&self, first: u8) -> Result<(), Fault> {
        let (opcode, last) = (first & 0x0f, first & FIN != 0);
        let begins = matches!(opcode, 1 | 2);
        let meant = match self.rules.extension {
            Extension::Unknown => RESERVED,
            Extension::Deflate if begins => COMPRESSED,
            Extension::Deflate | Extension::None => 0,
        };
        if first & RESERVED & !meant != 0 {
            return Err(Fault::ReservedBit);
        }
        match opcode {
            0 if self.message.is_none() => Err(Fault::Continuation),
            1 | 2 if self.message.is_some() => Err(Fault::Interleaved),
            0..=2 => Ok(()),
            8..=10 if last => Ok(()),
            8..=10 => Err(Fault::ControlInPieces),
            _ => Err(Fault::Opcode),
        }
    }

    fn size(&self, first: u8, length: u64) -> Result<(), Fault> {
        let Rules { max_frame, max_message, .. } = self.rules;
        let over = |most: Option<NonZeroU32>, length: u64| most.is_some_and(|most| length > u64::from(most.get()));
        if first & CONTROL != 0 {
            return Ok(());
        }
        if over(max_frame, length) {
            return Err(Fault::LargeFrame);
        }
        if over(max_message, self.message.unwrap_or(0).saturating_add(length)) {
            return Err(Fault::LargeMessage);
        }
        Ok(())
    }
}

/// The control frame that begins so, if it is all there.
fn control(head: &Head, bytes: &[u8]) -> Piece {
    let length = u8::try_from(head.length).unwrap_or(u8::MAX);
    let Some(masked) = bytes[head.bytes..].get(..length.into()) else { return Piece::Short };
    let mut payload = [0; MOST_CONTROL];
    for ((to, from), key) in payload.iter_mut().zip(masked).zip(head.key.iter().cycle()) {
        *to = from ^ key;
    }
    let kind = match head.first & 0x0f {
        8 => Kind::Close,
        9 => Kind::Ping,
        _ => Kind::Pong,
    };
    Piece::Control { bytes: head.bytes + masked.len(), frame: Control { kind, payload, length } }
}

#[cfg(test)]
mod tests;
