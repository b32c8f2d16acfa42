//! What a WebSocket's end sends: however it is cut, the same goes on, the same control frames are seen, and it breaks off at
//! the same place, where another reader, who has it all at once, finds no frame either; and little of it is ever kept.

use std::num::NonZeroU32;

use super::engine;
use crate::proxy::frames::{Extension, Piece, Rules, Scanner, Until};

const WORDS: [&str; 12] = [
    "\0",
    "\0\0\0\0",
    "\0\0\0\0\0\0\0\0",
    "\x01",
    "\x02",
    "\x01\x01a",
    "\x02\x00",
    "\x7e\x00\x7e",
    "\x7f\0\0\0\0\0\x01\0\0",
    "\x7f\0\0\0\0\0\0\x01\0",
    "}",
    "~",
];

/// What the first byte of an input says of it.
const MASKED: u8 = 1;
const DEFLATE: u8 = 2;
const SMALL: u8 = 4;
/// The most payload of a frame and of a message, if it says so.
const LIMITS: (Option<NonZeroU32>, Option<NonZeroU32>) = (NonZeroU32::new(300), NonZeroU32::new(500));

#[test]
fn frames() {
    engine::run("frames", &WORDS, target);
}

/// Whether it broke off, and how many frames of each kind came before.
fn target(input: &[u8]) -> String {
    let Some((how, bytes)) = input.split_first() else { return String::new() };
    let (max_frame, max_message) = if how & SMALL != 0 { LIMITS } else { (None, None) };
    let extension = if how & DEFLATE != 0 { Extension::Deflate } else { Extension::None };
    let rules = Rules { masked: how & MASKED != 0, extension, max_frame, max_message };
    let other = read(bytes, rules);
    for cut in [1, 2, 3, 7, usize::MAX] {
        let seen = scanned(bytes, rules, cut, Until::End);
        assert_eq!(seen.controls, other.controls, "in pieces of {cut}");
        assert_eq!((seen.good, seen.broken), (other.good, other.broken), "in pieces of {cut}");
    }
    assert_eq!(scanned(bytes, rules, 5, Until::Boundary), other);
    format!("{} {} {:?}", how & 7, other.broken, other.controls.iter().map(|c| c.len().min(3)).collect::<Vec<_>>())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Bytes up to where it broke off, or to where more must be known.
    good: usize,
    broken: bool,
    /// Payloads of control frames.
    controls: Vec<Vec<u8>>,
}

fn scanned(bytes: &[u8], rules: Rules, cut: usize, until: Until) -> Seen {
    let (mut scanner, mut seen, mut kept) = (Scanner::new(rules), Seen::default(), Vec::new());
    for piece in bytes.chunks(cut.min(bytes.len()).max(1)) {
        kept.extend(piece);
        while !kept.is_empty() {
            match scanner.next(&kept, until, u32::MAX) {
                Ok(Piece::Pass { bytes, .. }) => {
                    assert!(bytes > 0);
                    seen.good += kept.drain(..bytes).count();
                }
                Ok(Piece::Control { bytes, frame }) => {
                    seen.good += kept.drain(..bytes).count();
                    seen.controls.push(frame.payload().to_vec());
                }
                Ok(Piece::Short) => {
                    assert!(kept.len() < 139, "{} bytes are kept", kept.len());
                    break;
                }
                Ok(Piece::Held) => unreachable!("nothing is counted"),
                Err(_) => return Seen { broken: true, ..seen },
            }
        }
    }
    seen
}

/// Read as RFC 6455 tells it, with all of it at hand.
fn read(bytes: &[u8], rules: Rules) -> Seen {
    let (mut seen, mut message) = (Seen::default(), None::<u64>);
    while let [first, second, more @ ..] = &bytes[seen.good..] {
        let (last, opcode, masked, short) = (first >> 7 == 1, first & 15, second >> 7 == 1, second & 127);
        let marks = (first >> 4) & 7;
        let marked = marks == 4 && rules.extension == Extension::Deflate && (opcode == 1 || opcode == 2);
        let fits = match opcode {
            0 => message.is_some(),
            1 | 2 => message.is_none(),
            8..=10 => last && short < 126,
            _ => false,
        };
        if !fits || masked != rules.masked || (marks != 0 && !marked) {
            return Seen { broken: true, ..seen };
        }
        let width = [0, 2, 8][usize::from(short.saturating_sub(125))];
        if more.len() < width {
            return seen;
        }
        let length = match width {
            0 => u64::from(short),
            _ => more[..width].iter().fold(0_u128, |n, b| (n << 8) | u128::from(*b)).try_into().unwrap(),
        };
        let least = [0, 126, 65_536][usize::from(short.saturating_sub(125))];
        let whole = message.unwrap_or(0).saturating_add(length);
        let control = opcode >= 8;
        let over = |n: u64, most: Option<NonZeroU32>| most.is_some_and(|most| n > most.get().into());
        let large = !control && (over(length, rules.max_frame) || over(whole, rules.max_message));
        if length < least || length >= 1 << 63 || large {
            return Seen { broken: true, ..seen };
        }
        let head = 2 + width + if masked { 4 } else { 0 };
        let there = bytes.len() - seen.good;
        if there < head {
            return seen;
        }
        let all = (head as u64).saturating_add(length);
        if control {
            if (there as u64) < all {
                return seen;
            }
            let frame = &bytes[seen.good..][..usize::try_from(all).unwrap()];
            let payload = frame[head..].iter().enumerate();
            seen.controls.push(payload.map(|(i, b)| b ^ if masked { frame[head - 4 + i % 4] } else { 0 }).collect());
        } else {
            message = (!last).then_some(whole);
        }
        seen.good += usize::try_from(all.min(there as u64)).unwrap();
    }
    seen
}
