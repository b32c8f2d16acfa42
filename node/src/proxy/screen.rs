//! Reads the framing of a client's bytes more strictly than the parser behind it, so that no two readers can disagree. Pure.
//!
//! ```text
//!            ┌────────────────────── no body ───────────────────────┐
//!            ▼                                                      │
//!  idle ─► request line ─► fields ─► end of head ─┬─ Content-Length ┼─► body ─► idle
//!                                                 ├─ chunked ─► size ─► data ─► … ─► trailer ─► idle
//!                                                 └─ Upgrade: websocket ─► opaque (never HTTP again)
//! ```
//! RFC 9112 lets a recipient repair much of what is refused here (bare LF, folded fields, two equal lengths); a proxy
//! that repairs what the next hop reads otherwise is how requests are smuggled.

use std::time::Duration;

use http::StatusCode;

/// The most field lines in one head: what the parser behind takes.
pub(super) const MAX_FIELDS: usize = 100;
/// The longest line before a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 1024;
/// What most lines fit into.
const USUAL_LINE: usize = 256;

/// Why a client's bytes are not read further. The client must mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Not HTTP/1, or HTTP/1 that two readers may understand differently.
    #[error("{0}")]
    Malformed(&'static str),
    /// The head goes beyond the limit, in bytes.
    #[error("the head is larger than {0} bytes")]
    HeadTooLarge(usize),
    /// More than [`MAX_FIELDS`] field lines.
    #[error("the head has more than {MAX_FIELDS} fields")]
    TooManyFields,
    /// The head began but was not complete in time.
    #[error("the head was not complete within {0:?}")]
    HeadTooSlow(Duration),
    /// The body began but nothing more of it came.
    #[error("nothing of the body came within {0:?}")]
    BodyTooSlow(Duration),
}

impl Refusal {
    /// What the client is answered.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge(_) | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTooSlow(_) | Self::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// Where between two bytes the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Between two messages.
    Idle,
    /// In a head.
    Head,
    /// In a body, its chunk lines and trailers included.
    Body,
    /// After a WebSocket request: no longer ours to read.
    Opaque,
}

/// A refusal, and how much of the same bytes may still be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Bytes before the refused message; none if it began before these bytes.
    pub(super) whole: usize,
    /// Its head was complete before these bytes, so it was handed on.
    pub(super) in_body: bool,
    /// Why.
    pub(super) refusal: Refusal,
}

/// Follows one connection's messages byte by byte.
#[derive(Debug)]
pub(super) struct Scanner {
    limit: usize,
    step: Step,
    head: Head,
    line: Vec<u8>,
    heads: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Line(Part),
    /// CR seen, LF must follow.
    LineEnd(Part),
    Body(u64),
    Chunk(u64),
    /// The CRLF behind a chunk's data.
    ChunkEnd(&'static [u8]),
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Request,
    Field,
    ChunkSize,
    Trailer,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    fields: usize,
    blank: bool,
    old: bool,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    websocket: bool,
}

impl Scanner {
    /// `limit`: the most bytes of one head.
    pub(super) fn new(limit: usize) -> Self {
        let line = Vec::with_capacity(USUAL_LINE);
        Self { limit, step: Step::Line(Part::Request), head: Head::default(), line, heads: 0 }
    }

    /// Where the client is after the bytes scanned so far.
    pub(super) fn stage(&self) -> Stage {
        match self.step {
            Step::Line(Part::Request) if self.head.bytes == 0 => Stage::Idle,
            Step::Line(Part::Request | Part::Field) | Step::LineEnd(Part::Request | Part::Field) => Stage::Head,
            Step::Opaque => Stage::Opaque,
            _ => Stage::Body,
        }
    }

    /// Complete heads so far.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Reads the next bytes, in whatever pieces they came.
    ///
    /// # Errors
    /// What is wrong with them. Then the scanner must not be used again.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let (mut at, mut whole) = (0, 0);
        let mut in_body = self.stage() == Stage::Body;
        while at < bytes.len() {
            if self.stage() == Stage::Idle {
                (whole, in_body) = (at, false);
            }
            at += self.advance(&bytes[at..]).map_err(|refusal| Refused { whole, in_body, refusal })?;
        }
        Ok(())
    }

    /// Reads at least one of `bytes` (never empty); says how many.
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self.step {
            Step::Opaque => Ok(bytes.len()),
            Step::Line(part) => self.line(part, bytes),
            Step::LineEnd(part) => {
                if bytes[0] != b'\n' {
                    return Err(Refusal::Malformed("a CR stands without its LF"));
                }
                self.count(part, 1)?;
                self.step = self.line_ended(part)?;
                self.line.clear();
                Ok(1)
            }
            Step::Body(left) => {
                let n = count(left, bytes);
                self.step = if n as u64 == left { self.message_ended() } else { Step::Body(left - n as u64) };
                Ok(n)
            }
            Step::Chunk(left) => {
                let n = count(left, bytes);
                self.step = if n as u64 == left { Step::ChunkEnd(b"\r\n") } else { Step::Chunk(left - n as u64) };
                Ok(n)
            }
            Step::ChunkEnd(rest) => {
                if bytes[0] != rest[0] {
                    return Err(Refusal::Malformed("a chunk is not as long as it says"));
                }
                self.step = if rest.len() == 1 { Step::Line(Part::ChunkSize) } else { Step::ChunkEnd(&rest[1..]) };
                Ok(1)
            }
        }
    }

    fn line(&mut self, part: Part, bytes: &[u8]) -> Result<usize, Refusal> {
        let plain = |b: &u8| (*b >= b' ' && *b != 0x7f) || *b == b'\t';
        let n = bytes.iter().position(|b| !plain(b)).unwrap_or(bytes.len());
        self.count(part, n)?;
        self.line.extend_from_slice(&bytes[..n]);
        match bytes.get(n) {
            None => Ok(n),
            Some(b'\r') => {
                self.count(part, 1)?;
                self.step = Step::LineEnd(part);
                Ok(n + 1)
            }
            Some(b'\n') => Err(Refusal::Malformed("a line ends with LF instead of CRLF")),
            Some(_) => Err(Refusal::Malformed("a control byte stands in the head")),
        }
    }

    /// `n` more bytes of a line: is that still within limits?
    fn count(&mut self, part: Part, n: usize) -> Result<(), Refusal> {
        self.head.bytes = self.head.bytes.saturating_add(n);
        match part {
            Part::ChunkSize if self.head.bytes > MAX_CHUNK_LINE => {
                Err(Refusal::Malformed("the line before a chunk is too long"))
            }
            Part::Request | Part::Field | Part::Trailer if self.head.bytes > self.limit => {
                Err(Refusal::HeadTooLarge(self.limit))
            }
            _ => Ok(()),
        }
    }

    fn line_ended(&mut self, part: Part) -> Result<Step, Refusal> {
        match part {
            // RFC 9112 section 2.2: one empty line before a request is forgiven.
            Part::Request if self.line.is_empty() && !self.head.blank => {
                self.head.blank = true;
                Ok(Step::Line(Part::Request))
            }
            Part::Request => {
                self.head.old = request_line(&self.line)?;
                Ok(Step::Line(Part::Field))
            }
            Part::Field if self.line.is_empty() => self.head_ended(),
            Part::Trailer if self.line.is_empty() => Ok(self.message_ended()),
            Part::Field | Part::Trailer => {
                self.head.fields += 1;
                if self.head.fields > MAX_FIELDS {
                    return Err(Refusal::TooManyFields);
                }
                let (name, value) = field(&self.line)?;
                if part == Part::Field {
                    self.head.note(name, value)?;
                }
                Ok(Step::Line(part))
            }
            Part::ChunkSize => {
                let size = chunk_size(&self.line)?;
                self.head.bytes = 0;
                Ok(if size == 0 { Step::Line(Part::Trailer) } else { Step::Chunk(size) })
            }
        }
    }

    fn head_ended(&mut self) -> Result<Step, Refusal> {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        if !head.host && !head.old {
            return Err(Refusal::Malformed("Host is missing"));
        }
        if head.chunked && head.length.is_some() {
            return Err(Refusal::Malformed("both Content-Length and Transfer-Encoding are there"));
        }
        if head.chunked && head.old {
            return Err(Refusal::Malformed("HTTP/1.0 has no Transfer-Encoding"));
        }
        let length = head.length.unwrap_or(0);
        if head.websocket && (head.chunked || length > 0) {
            return Err(Refusal::Malformed("a WebSocket request has no body"));
        }
        Ok(match (head.websocket, head.chunked, length) {
            (true, _, _) => Step::Opaque,
            (_, true, _) => Step::Line(Part::ChunkSize),
            (_, _, 0) => self.message_ended(),
            (_, _, n) => Step::Body(n),
        })
    }

    fn message_ended(&mut self) -> Step {
        self.head = Head::default();
        Step::Line(Part::Request)
    }
}

impl Head {
    /// Keeps what decides the framing; refuses what makes it ambiguous.
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Refusal::Malformed("Content-Length is there twice"));
            }
            self.length = Some(decimal(value).ok_or(Refusal::Malformed("Content-Length is no number"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked {
                return Err(Refusal::Malformed("Transfer-Encoding is there twice"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::Malformed("Transfer-Encoding is something else than chunked"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            if self.host {
                return Err(Refusal::Malformed("Host is there twice"));
            }
            if !is_host(value) {
                return Err(Refusal::Malformed("Host is no host"));
            }
            self.host = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") && names_websocket(value) {
            self.websocket = true;
        }
        Ok(())
    }
}

/// Whether an `Upgrade` value offers WebSocket: what makes the connection opaque, and what sends a request to
/// `upgrade.rs`; both must agree.
pub(super) fn names_websocket(value: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// Whether it can be a host with or without a port, or none at all: no userinfo, no list, no path.
pub(super) fn is_host(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b))
}

fn count(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// Whether it is HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed("the request line is not: method, target, HTTP/1.1"));
    };
    if !is_token(method) {
        return Err(Refusal::Malformed("the method is no token"));
    }
    if method == b"CONNECT" {
        return Err(Refusal::Malformed("CONNECT is not served here"));
    }
    if (method, target, version) == (b"PRI", b"*", b"HTTP/2.0") {
        return Err(Refusal::Malformed("HTTP/2 is off on this listener"));
    }
    let lower = target.to_ascii_lowercase();
    let form = target.first() == Some(&b'/')
        || (target == b"*" && method == b"OPTIONS")
        || lower.starts_with(b"http://")
        || lower.starts_with(b"https://");
    if !form || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::Malformed("the target is neither a path nor an http URL"));
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Refusal::Malformed("the version is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Malformed("a field is folded over two lines"));
    }
    let Some(colon) = line.iter().position(|b| *b == b':') else {
        return Err(Refusal::Malformed("a field has no colon"));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Refusal::Malformed("a blank stands before a colon"));
    }
    if !is_token(name) {
        return Err(Refusal::Malformed("a field's name is no token"));
    }
    Ok((name, value.trim_ascii()))
}

/// A `Content-Length` as RFC 9110 section 8.6 writes it.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if !(1..=19).contains(&text.len()) || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0u64, |sum, b| sum.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))))
}

/// `1*HEXDIG [";" extension]` (RFC 9112 section 7.1); the extension is read over, never handed on.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.split(|b| *b == b';').next().unwrap_or(line);
    if !(1..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Refusal::Malformed("a chunk's size is no hexadecimal number"));
    }
    let value = |b: &u8| u64::from((*b as char).to_digit(16).unwrap_or(0));
    Ok(digits.iter().fold(0, |sum, b| sum << 4 | value(b)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    /// The end: a stage with the number of heads, or the refusal.
    fn verdict(input: &[u8], cuts: &[usize]) -> Result<(Stage, u64), Refusal> {
        let mut scanner = Scanner::new(512);
        let mut at = 0;
        for cut in cuts.iter().copied().chain([input.len()]) {
            let cut = cut.clamp(at, input.len());
            scanner.scan(&input[at..cut]).map_err(|r| r.refusal)?;
            at = cut;
        }
        Ok((scanner.stage(), scanner.heads()))
    }

    fn refused(input: &str, why: &str) {
        match verdict(input.as_bytes(), &[]) {
            Err(refusal) => assert!(refusal.to_string().contains(why), "{input:?}: {refusal}"),
            Ok(end) => panic!("{input:?} was taken: {end:?}"),
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n";
    const SOCKET: &str = "GET /s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

    #[test]
    fn takes_messages_one_after_the_other() {
        let all = [GET, POST, CHUNKED, "\r\n", GET, "OPTIONS * HTTP/1.0\r\n\r\n"].concat();
        assert_eq!(verdict(all.as_bytes(), &[]), Ok((Stage::Idle, 5)));
        assert_eq!(verdict(&all.as_bytes()[..all.len() - 1], &[]), Ok((Stage::Head, 4)));
        let open = [POST, &CHUNKED[..CHUNKED.len() - 2]].concat();
        assert_eq!(verdict(open.as_bytes(), &[]), Ok((Stage::Body, 2)));
    }

    #[test]
    fn after_a_websocket_request_nothing_is_read() {
        let all = [SOCKET, "\0\x01 nonsense \n\n\r"].concat();
        assert_eq!(verdict(all.as_bytes(), &[]), Ok((Stage::Opaque, 1)));
    }

    #[test]
    fn refuses_what_two_readers_may_read_differently() {
        let h = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        refused(&h("Content-Length: 1\r\nTransfer-Encoding: chunked"), "both");
        refused(&h("Transfer-Encoding: chunked\r\nContent-Length: 1"), "both");
        refused(&h("Content-Length: 1\r\nContent-Length: 1"), "twice");
        refused(&h("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "twice");
        for bad in ["+1", "-1", "1, 1", "0x1", "", "1 1", "18446744073709551616", "99999999999999999999"] {
            refused(&h(&format!("Content-Length: {bad}")), "no number");
        }
        for bad in ["gzip, chunked", "chunked, identity", "xchunked", "\"chunked\"", "identity", "chunked;a=b", ""] {
            refused(&h(&format!("Transfer-Encoding: {bad}")), "else than chunked");
        }
        refused(&h("Transfer-Encoding : chunked"), "before a colon");
        refused(&h("X: 1\r\n folded"), "folded");
        refused(&h("X: 1\r\n\tfolded"), "folded");
        refused("GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n", "folded");
        refused(&h("X\u{e4}: 1"), "no token");
        refused(&h(": 1"), "no token");
        refused(&h("nonsense"), "no colon");
        refused(&h("X: a\0b"), "control");
        refused(&h("X: a\rb"), "without its LF");
        refused(&h("X: a\nContent-Length: 5"), "LF instead");
        refused("GET / HTTP/1.1\nHost: a\n\n", "LF instead");
        refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "1.0");
        refused(&h("Upgrade: websocket\r\nContent-Length: 4"), "no body");
    }

    #[test]
    fn refuses_bad_request_lines_and_hosts() {
        for bad in ["GET  / HTTP/1.1", "GET /", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET\t/ HTTP/1.1", "", "GET"] {
            refused(&format!("\r\n{bad}\r\nHost: a\r\n\r\n"), "request line");
        }
        refused("G@T / HTTP/1.1\r\n\r\n", "method");
        refused("CONNECT a:1 HTTP/1.1\r\n\r\n", "CONNECT");
        refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 is off");
        for bad in ["x", "*", "ftp://a/", "/\u{e4}", "a:80"] {
            refused(&format!("GET {bad} HTTP/1.1\r\n\r\n"), "target");
        }
        for bad in ["HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.10", "HTTP/11"] {
            refused(&format!("GET / {bad}\r\n\r\n"), "version");
        }
        refused("GET / HTTP/1.1\r\nX: y\r\n\r\n", "Host is missing");
        refused("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "Host is there twice");
        for bad in ["a b", "a/b", "u@a", "a,b"] {
            refused(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n"), "no host");
        }
    }

    #[test]
    fn refuses_malformed_chunks() {
        let c = |chunks: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        for bad in ["", "0x3", " 3", "3 ", "-3", "g", "1234567890abcdef", ";x"] {
            refused(&c(&format!("{bad}\r\nabc\r\n")), "hexadecimal");
        }
        refused(&c("3\r\nabcd\r\n"), "as long as");
        refused(&c("3\r\nabc\n0\r\n\r\n"), "as long as");
        refused(&c("3\nabc"), "LF instead");
        refused(&c(&format!("3;{}\r\n", "x".repeat(1024))), "too long");
        refused(&c("0\r\nT : v\r\n\r\n"), "before a colon");
    }

    #[test]
    fn bounds_the_head() {
        let big = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(512));
        assert_eq!(verdict(big.as_bytes(), &[]), Err(Refusal::HeadTooLarge(512)));
        let exact = |n: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "p".repeat(n - 18));
        assert_eq!(verdict(exact(512).as_bytes(), &[]), Ok((Stage::Idle, 1)));
        assert_eq!(verdict(exact(513).as_bytes(), &[]), Err(Refusal::HeadTooLarge(512)));
        let mut scanner = Scanner::new(1 << 20);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS));
        assert_eq!(scanner.scan(many.as_bytes()).unwrap_err().refusal, Refusal::TooManyFields);
    }

    #[test]
    fn what_was_whole_before_a_refusal_is_told() {
        let mut scanner = Scanner::new(512);
        let refused = scanner.scan([GET, POST, "BAD\r\n"].concat().as_bytes()).unwrap_err();
        assert_eq!(refused.whole, GET.len() + POST.len());
        let mut scanner = Scanner::new(512);
        scanner.scan(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let refused = scanner.scan(b"zz\r\n").unwrap_err();
        assert_eq!((refused.whole, refused.in_body), (0, true), "its head was handed on before");
        let mut scanner = Scanner::new(512);
        scanner.scan(b"POST / HTTP/1.1\r\nHost: a\r\n").unwrap();
        let refused = scanner.scan(b"Transfer-Encoding: chunked\r\n\r\nzz\r\n").unwrap_err();
        assert_eq!((refused.whole, refused.in_body), (0, false), "its head was not complete before");
    }

    /// Good messages with a few bytes spoilt: the place where splits could matter.
    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::collection::vec(prop::sample::select(vec![GET, POST, CHUNKED, SOCKET, "\r\n"]), 1..5);
        let spoilt = prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"\r\n \t:;0\0aZ".to_vec())),
            0..3,
        );
        (parts, spoilt).prop_map(|(parts, spoilt)| {
            let mut input = parts.concat().into_bytes();
            for (at, byte) in spoilt {
                let at = at.index(input.len());
                input[at] = byte;
            }
            input
        })
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_verdict(input in inputs(), mut cuts in prop::collection::vec(0usize..600, 0..8)) {
            cuts.sort_unstable();
            let whole = verdict(&input, &[]);
            prop_assert_eq!(verdict(&input, &cuts), whole);
            let each: Vec<usize> = (0..input.len()).collect();
            prop_assert_eq!(verdict(&input, &each), whole);
        }

        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = verdict(&input, &[]);
        }
    }
}
