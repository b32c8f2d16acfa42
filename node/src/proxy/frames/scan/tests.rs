//! Held against tokio-tungstenite, however the bytes are cut.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Cursor, Read};

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::*;

pub(in crate::proxy) fn rules(masked: bool) -> Rules {
    Rules { masked, extension: Extension::None, max_frame: None, max_message: None }
}

/// A frame: its first byte, what it carries, masked or not.
fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut bytes = vec![first];
    let mask = if masked { MASKED } else { 0 };
    match u8::try_from(payload.len()) {
        Ok(short) if short < 126 => bytes.push(mask | short),
        _ => match u16::try_from(payload.len()) {
            Ok(long) => {
                bytes.push(mask | 126);
                bytes.extend(long.to_be_bytes());
            }
            Err(_) => {
                bytes.push(mask | 127);
                bytes.extend((payload.len() as u64).to_be_bytes());
            }
        },
    }
    let key = if masked { [1, 0x80, 3, 4] } else { [0; 4] };
    if masked {
        bytes.extend(key);
    }
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    bytes
}

/// What is made of bytes that come in pieces of these sizes: what goes on, the control frames, where and why it broke off.
fn scanned(bytes: &[u8], rules: Rules, cuts: &[usize], until: Until) -> (Vec<u8>, Vec<Control>, Option<Fault>) {
    let (mut scanner, mut on, mut controls) = (Scanner::new(rules), Vec::new(), Vec::new());
    let (mut kept, mut at, mut cuts) = (Vec::new(), 0, cuts.iter().cycle());
    while at < bytes.len() {
        let end = (at + cuts.next().unwrap()).min(bytes.len());
        kept.extend(&bytes[at..end]);
        at = end;
        loop {
            match scanner.next(&kept, until, u32::MAX) {
                Ok(Piece::Pass { bytes, .. }) => on.extend(kept.drain(..bytes)),
                Ok(Piece::Control { bytes, frame }) => {
                    assert!(scanner.at_boundary());
                    on.extend(kept.drain(..bytes));
                    controls.push(frame);
                }
                Ok(Piece::Short) => {
                    assert!(kept.len() < 14 + MOST_CONTROL, "{} are kept", kept.len());
                    break;
                }
                Ok(Piece::Held) => panic!("nothing is counted here"),
                Err(broken) => {
                    assert!(scanner.at_boundary(), "the receiver stands between frames");
                    assert_eq!(broken.head(), &kept[..kept.len().min(14)]);
                    return (on, controls, Some(broken.fault));
                }
            }
        }
    }
    (on, controls, None)
}

fn whole(bytes: &[u8], masked: bool) -> Option<Fault> {
    scanned(bytes, rules(masked), &[usize::MAX >> 1], Until::End).2
}

#[test]
fn what_is_no_frame_is_named() {
    let client = |bytes: &[u8]| whole(bytes, true);
    assert_eq!(client(&[0x82, 0x01, 7]), Some(Fault::Unmasked));
    assert_eq!(whole(&[0x82, 0x81, 1, 2, 3, 4, 7], false), Some(Fault::Masked));
    for first in [0xc2, 0xa2, 0x92, 0xc9] {
        assert_eq!(client(&[first, 0x80, 1, 2, 3, 4]), Some(Fault::ReservedBit), "{first:#x}");
    }
    for opcode in (3..8).chain(11..16) {
        assert_eq!(client(&[0x80 | opcode, 0x80, 1, 2, 3, 4]), Some(Fault::Opcode), "{opcode}");
    }
    assert_eq!(client(&[0x89, 0xfe]), Some(Fault::LongControl), "before its length is there");
    assert_eq!(client(&[0x09, 0x80, 1, 2, 3, 4]), Some(Fault::ControlInPieces));
    assert_eq!(client(&frame(0x80, b"x", true)), Some(Fault::Continuation));
    let two = [frame(0x01, b"a", true), frame(0x01, b"b", true)].concat();
    assert_eq!(client(&two), Some(Fault::Interleaved));
    assert_eq!(client(&[0x82, 0xfe, 0, 125]), Some(Fault::LongForm));
    assert_eq!(client(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Some(Fault::LongForm));
    assert_eq!(client(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), Some(Fault::Endless));
    assert_eq!(Fault::Endless.code(), 1002);
}

#[test]
fn what_is_too_large_is_known_by_its_head() {
    let small = Rules { max_frame: NonZeroU32::new(200), max_message: NonZeroU32::new(300), ..rules(true) };
    let scan = |bytes: &[u8]| scanned(bytes, small, &[1], Until::End).2;
    assert_eq!(scan(&frame(0x82, &[0; 200], true)), None);
    assert_eq!(scan(&frame(0x82, &[0; 201], true)[..4]), Some(Fault::LargeFrame));
    let message = [frame(0x02, &[0; 200], true), frame(0x89, b"ping", true), frame(0x00, &[0; 100], true)].concat();
    assert_eq!(scan(&message), None);
    let more = [message, frame(0x80, &[0; 1], true)].concat();
    assert_eq!(scan(&more), Some(Fault::LargeMessage));
    assert_eq!(Fault::LargeMessage.code(), 1009);
    let immense = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(whole(&immense, true), None, "4 GiB, where there is no limit");
}

#[test]
fn what_was_agreed_on_gives_bits_a_meaning() {
    let agreed = |value: &str| Extension::agreed(std::iter::once(value.as_bytes()));
    assert_eq!(Extension::agreed(std::iter::empty()), Extension::None);
    assert_eq!(agreed("permessage-deflate; client_no_context_takeover"), Extension::Deflate);
    assert_eq!(agreed("x-mux, Permessage-Deflate"), Extension::Unknown);
    let scan = |extension, bytes: &[u8]| scanned(bytes, Rules { extension, ..rules(false) }, &[1], Until::End).2;
    let compressed = [frame(0x41, b"a", false), frame(0x80, b"b", false)].concat();
    assert_eq!(scan(Extension::Deflate, &compressed), None);
    assert_eq!(scan(Extension::None, &compressed), Some(Fault::ReservedBit));
    let twice = [frame(0x41, b"a", false), frame(0xc0, b"b", false)].concat();
    assert_eq!(scan(Extension::Deflate, &twice), Some(Fault::ReservedBit), "only the first is marked");
    assert_eq!(scan(Extension::Deflate, &frame(0xc9, b"", false)), Some(Fault::ReservedBit));
    assert_eq!(scan(Extension::Unknown, &frame(0xf0 | 2, b"", false)), None);
}

#[test]
fn messages_are_counted_where_they_begin() {
    let bytes = [frame(0x01, b"a", true), frame(0x80, b"b", true), frame(0x82, b"c", true)].concat();
    let mut scanner = Scanner::new(rules(true));
    let first = frame(0x01, b"a", true).len() + frame(0x80, b"b", true).len();
    assert_eq!(scanner.next(&bytes, Until::End, 1), Ok(Piece::Pass { bytes: first, messages: 1 }));
    assert_eq!(scanner.next(&bytes[first..], Until::End, 0), Ok(Piece::Held));
    let rest = bytes.len() - first;
    assert_eq!(scanner.next(&bytes[first..], Until::End, 5), Ok(Piece::Pass { bytes: rest, messages: 1 }));
}

#[test]
fn a_pass_can_end_where_a_frame_does() {
    let bytes = [frame(0x01, b"abc", true), frame(0x80, b"def", true)].concat();
    let mut scanner = Scanner::new(rules(true));
    assert_eq!(scanner.next(&bytes[..7], Until::Boundary, 9), Ok(Piece::Pass { bytes: 7, messages: 1 }));
    assert!(!scanner.at_boundary());
    assert_eq!(scanner.next(&bytes[7..], Until::Boundary, 9), Ok(Piece::Pass { bytes: 2, messages: 0 }));
    assert!(scanner.at_boundary());
}

fn reader(bytes: &[u8], role: Role) -> (Vec<Message>, Option<Error>) {
    struct Given(Cursor<Vec<u8>>);
    impl Read for Given {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(to)
        }
    }
    impl std::io::Write for Given {
        fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
            Ok(from.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut socket = WebSocket::from_raw_socket(Given(Cursor::new(bytes.to_vec())), role, None);
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => messages.push(message),
            Err(error) => return (messages, Some(error)),
        }
    }
}

/// Frames of whole messages, with control frames between their pieces.
fn talk(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::collection::vec(b'a'..=b'z', 0..200);
    let control =
        prop::option::of((prop::sample::select(vec![0x89u8, 0x8a]), prop::collection::vec(any::<u8>(), 0..=125)));
    let message = (any::<bool>(), prop::collection::vec((piece, control), 1..4));
    prop::collection::vec(message, 0..5).prop_map(move |messages| {
        let mut bytes = Vec::new();
        for (text, pieces) in messages {
            let last = pieces.len() - 1;
            for (i, (piece, control)) in pieces.into_iter().enumerate() {
                let opcode = if i > 0 { 0 } else { 1 + u8::from(!text) };
                let fin = if i == last { FIN } else { 0 };
                bytes.extend(frame(fin | opcode, &piece, masked));
                if let Some((first, payload)) = control {
                    bytes.extend(frame(first, &payload, masked));
                }
            }
        }
        bytes
    })
}

proptest! {
    /// What is right goes on as it came, however it is cut, and another reader finds the same control frames.
    #[test]
    fn all_of_a_talk_goes_on(
        bytes in talk(true),
        cuts in prop::collection::vec(1usize..50, 1..20),
        boundary in any::<bool>(),
    ) {
        let until = if boundary { Until::Boundary } else { Until::End };
        let (on, controls, fault) = scanned(&bytes, rules(true), &cuts, until);
        prop_assert_eq!(fault, None);
        prop_assert_eq!(&on, &bytes);
        let (messages, _) = reader(&bytes, Role::Server);
        let theirs: Vec<Vec<u8>> = messages.into_iter().filter(|m| m.is_ping() || m.is_pong()).map(|m| m.into_data().to_vec()).collect();
        let ours: Vec<Vec<u8>> = controls.iter().map(|c| c.payload().to_vec()).collect();
        prop_assert_eq!(ours, theirs);
    }

    /// What is broken anywhere is broken off at the same place, however it is cut; what another reader takes for no frame is none.
    #[test]
    fn a_broken_talk_has_one_verdict(
        bytes in talk(true),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(1usize..50, 1..20),
    ) {
        let mut bytes = bytes;
        for (at, byte) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let (on, controls, fault) = scanned(&bytes, rules(true), &cuts, Until::End);
        let at_once = scanned(&bytes, rules(true), &[usize::MAX >> 1], Until::End);
        prop_assert_eq!((&on, &controls, fault), (&at_once.0, &at_once.1, at_once.2));
        prop_assert!(bytes.starts_with(&on));
        let no_close = controls.iter().all(|c| c.kind != Kind::Close);
        if let (_, Some(Error::Protocol(why))) = reader(&bytes, Role::Server) {
            let broken = fault.is_some() || !no_close || why.to_string().contains("Connection reset");
            prop_assert!(broken, "another reader says {why}");
        }
    }
}
