//! WebSocket frames as bytes (RFC 6455, section 5.2): only what an echo needs, so that it costs next to nothing.

use anyhow::{bail, ensure};

/// The first byte of a whole binary message.
const BINARY: u8 = 0x82;
/// The second byte's bit that says a mask follows.
const MASKED: u8 = 0x80;

/// What stands before a client's payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its own bytes, the mask included.
    pub(crate) bytes: usize,
    /// Bytes that follow it.
    pub(crate) payload: usize,
    /// What the payload is masked with.
    pub(crate) mask: [u8; 4],
}

/// Reads the head of a client's frame; `None` while it is not all there.
///
/// # Errors
/// Anything but a whole, masked binary message.
pub(crate) fn client_head(given: &[u8]) -> anyhow::Result<Option<Head>> {
    let [first, second, rest @ ..] = given else { return Ok(None) };
    ensure!(*first == BINARY, "a frame began with {first:#04x}, not with that of a whole binary message");
    ensure!(second & MASKED != 0, "a client's frame was not masked");
    let (payload, rest) = match second & !MASKED {
        127 => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (usize::try_from(u64::from_be_bytes(*length))?, rest),
            None => return Ok(None),
        },
        126 => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest),
            None => return Ok(None),
        },
        short => (short.into(), rest),
    };
    if payload > 64 << 20 {
        bail!("a frame says it has {payload} bytes: that is none of ours");
    }
    Ok(rest.first_chunk::<4>().map(|mask| Head { bytes: given.len() - rest.len() + 4, payload, mask: *mask }))
}

/// The head of a server's frame.
pub(crate) fn server_head(payload: usize) -> Vec<u8> {
    head(payload, 0)
}

/// A client's whole frame.
pub(crate) fn client_frame(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = head(payload.len(), MASKED);
    frame.extend(mask);
    let start = frame.len();
    frame.extend(payload);
    toggle(&mut frame[start..], mask);
    frame
}

fn head(payload: usize, masked: u8) -> Vec<u8> {
    match (u8::try_from(payload), u16::try_from(payload)) {
        (Ok(n), _) if n < 126 => vec![BINARY, masked | n],
        (_, Ok(n)) => [&[BINARY, masked | 126], n.to_be_bytes().as_slice()].concat(),
        _ => [&[BINARY, masked | 127], (payload as u64).to_be_bytes().as_slice()].concat(),
    }
}

/// Masks, or unmasks, a payload from its first byte on.
pub(crate) fn toggle(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_frame_of_every_kind_of_length_is_read_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let payload: Vec<u8> = (0..length).map(|n: usize| n.to_le_bytes()[0]).collect();
            let mask = [1, 2, 3, 0x80];
            let mut frame = client_frame(&payload, mask);
            let head = client_head(&frame).unwrap().unwrap();
            assert_eq!((head.payload, head.mask, head.bytes + length), (length, mask, frame.len()));
            assert_eq!(server_head(length).len() + 4, head.bytes, "the server's head is the same less the mask");
            toggle(&mut frame[head.bytes..], mask);
            assert!(frame[head.bytes..] == payload);
            for part in 0..head.bytes {
                assert_eq!(client_head(&frame[..part]).unwrap(), None);
            }
        }
    }

    #[test]
    fn what_is_no_whole_masked_message_is_refused() {
        assert!(client_head(&[0x02, 0x81, 0, 0, 0, 0]).is_err(), "a fragment");
        assert!(client_head(&[0x82, 0x01, 0]).is_err(), "no mask");
        assert!(client_head(&[0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]).is_err(), "too long");
    }
}
