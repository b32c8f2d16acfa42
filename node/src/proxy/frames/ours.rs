//! Control frames that we put between those of others (RFC 6455 section 5.5). Pure.

use bytes::{BufMut, BytesMut};

use super::scan::MOST_CONTROL;

const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const MASKED: u8 = 0x80;

/// What a receiver's frames are masked with: a backend's with a key that nobody could guess (section 5.3), a client's not.
pub(super) type Mask = Option<[u8; 4]>;

/// Appends a Ping.
pub(super) fn ping(to: &mut BytesMut, payload: [u8; 8], mask: Mask) {
    control(to, PING, &payload, mask);
}

/// Appends a Close; of the reason what has room.
pub(super) fn close(to: &mut BytesMut, code: u16, reason: &str, mask: Mask) {
    let mut end = reason.len().min(MOST_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    control(to, CLOSE, &[&code.to_be_bytes(), &reason.as_bytes()[..end]].concat(), mask);
}

fn control(to: &mut BytesMut, first: u8, payload: &[u8], mask: Mask) {
    let length = u8::try_from(payload.len()).expect("a control frame of ours is short");
    to.put_u8(first);
    to.put_u8(length | if mask.is_some() { MASKED } else { 0 });
    if let Some(key) = mask {
        to.put_slice(&key);
    }
    let key = mask.unwrap_or_default();
    to.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::scan::{Extension, Kind, Piece, Rules, Scanner, Until};
    use super::*;

    #[test]
    fn they_are_read_as_they_are_meant() {
        for mask in [None, Some([1, 2, 3, 0x80])] {
            let rules =
                Rules { masked: mask.is_some(), extension: Extension::None, max_frame: None, max_message: None };
            let mut all = BytesMut::new();
            ping(&mut all, *b"12345678", mask);
            close(&mut all, 1001, &"ü".repeat(100), mask);
            let mut scanner = Scanner::new(rules);
            let Ok(Piece::Control { bytes, frame }) = scanner.next(&all, Until::End, 0) else { unreachable!("a ping") };
            assert_eq!((frame.kind, frame.payload()), (Kind::Ping, &b"12345678"[..]));
            let Ok(Piece::Control { bytes: more, frame }) = scanner.next(&all[bytes..], Until::End, 0) else {
                unreachable!("a close")
            };
            assert_eq!((frame.kind, frame.code(), bytes + more), (Kind::Close, 1001, all.len()));
            assert_eq!(std::str::from_utf8(&frame.payload()[2..]).unwrap(), "ü".repeat(61), "whole letters only");
        }
    }
}
