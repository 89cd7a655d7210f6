//! The frames of a WebSocket that come back through a route, rid of keys. Pure.
//!
//! Messages are looked through one by one; a key that an upstream spreads over several is not seen.

use std::io;

use hyper::body::Bytes;

use super::redact::{Keys, Redactor};

/// The longest head and the longest payload of a control frame, in bytes (RFC 6455, 5.2 and 5.5).
const MAX_HEAD: usize = 10;
const MAX_CONTROL: u64 = 125;

/// The bits of a frame's first two bytes, and the first of the opcodes that control.
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const CONTROL: u8 = 0x8;

/// The frames of an upstream, made anew without keys. What is held back of a frame goes into the next
/// one of its message.
pub(super) struct Frames {
    keys: Keys,
    redactor: Redactor,
    head: Vec<u8>,
    now: Option<Frame>,
    /// The opcode of the next frame that is made of the message in hand.
    opcode: u8,
}

/// A frame whose head was read.
struct Frame {
    is_last: bool,
    /// How much of its payload is to come.
    left: u64,
    /// Its first byte and what came of it, if it controls.
    control: Option<(u8, Vec<u8>)>,
}

impl Frames {
    pub(super) fn new(keys: Keys) -> Self {
        Self { redactor: Redactor::new(keys.clone()), keys, head: Vec::new(), now: None, opcode: 0 }
    }

    /// Takes what came, and returns what can go.
    ///
    /// # Errors
    /// It is not what a server sends without extensions, and cannot be looked through.
    pub(super) fn push(&mut self, mut bytes: Bytes) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let Some(frame) = &mut self.now else {
                if bytes.is_empty() {
                    return Ok(out);
                }
                self.head.extend_from_slice(&bytes.split_to(1));
                self.now = self.begin()?;
                continue;
            };
            if bytes.is_empty() && frame.left > 0 {
                return Ok(out);
            }
            let length = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
            let payload = bytes.split_to(length);
            frame.left -= length as u64;
            let is_whole = frame.left == 0;
            if let Some((_, gathered)) = &mut frame.control {
                gathered.extend_from_slice(&payload);
            } else {
                let is_last = frame.is_last && is_whole;
                self.data(payload, is_last, &mut out);
            }
            if is_whole && let Some(Frame { control: Some((first, payload)), .. }) = self.now.take() {
                let masked = self.keys.masked(&payload).unwrap_or(payload);
                write_frame(&mut out, first, &masked);
            }
        }
    }

    /// A frame, once its head is whole.
    fn begin(&mut self) -> io::Result<Option<Frame>> {
        let [first, second, length @ ..] = self.head.as_slice() else { return Ok(None) };
        if first & RESERVED != 0 || second & MASKED != 0 {
            return Err(io::Error::other("a frame cannot be read"));
        }
        let wanted = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if length.len() < wanted && self.head.len() < MAX_HEAD {
            return Ok(None);
        }
        let left = match wanted {
            0 => u64::from(*second),
            _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let (first, opcode) = (*first, first & OPCODE);
        let is_control = opcode >= CONTROL;
        if is_control && left > MAX_CONTROL {
            return Err(io::Error::other("a frame is too long"));
        }
        if !is_control && opcode != 0 {
            self.opcode = opcode;
        }
        self.head.clear();
        Ok(Some(Frame { is_last: first & FIN != 0, left, control: is_control.then(|| (first, Vec::new())) }))
    }

    fn data(&mut self, payload: Bytes, is_last: bool, out: &mut Vec<u8>) {
        let mut given = self.redactor.push(payload).to_vec();
        if is_last {
            given.extend_from_slice(&self.redactor.finish());
        }
        if is_last || !given.is_empty() {
            write_frame(out, self.opcode | if is_last { FIN } else { 0 }, &given);
            self.opcode = 0;
        }
    }
}

fn write_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    /// The messages and control frames in order: the opcode, and the payload.
    fn messages(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let (mut messages, mut open) = (Vec::new(), None::<(u8, Vec<u8>)>);
        while let [first, second, rest @ ..] = bytes {
            let (length, rest) = match second {
                126 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
                127 => (rest[..8].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), &rest[8..]),
                length => (usize::from(*length), rest),
            };
            let payload = &rest[..length];
            bytes = &rest[length..];
            if first & OPCODE >= CONTROL {
                messages.push((first & OPCODE, payload.to_vec()));
                continue;
            }
            let (_, message) = open.get_or_insert((first & OPCODE, Vec::new()));
            message.extend_from_slice(payload);
            if first & FIN != 0 {
                messages.extend(open.take());
            }
        }
        messages
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_in_order_and_without_keys(
            parts in vec((vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b' ')], 0..300), any::<bool>(), any::<bool>()), 1..8),
            cuts in vec(any::<Index>(), 0..20),
        ) {
            let keys = Keys::new(&[b"abba".to_vec()]).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let mut sent = Vec::new();
            let mut opcode = 1;
            let count = parts.len();
            for (at, (payload, is_last, with_ping)) in parts.iter().enumerate() {
                let is_last = *is_last || at + 1 == count;
                write_frame(&mut sent, opcode | if is_last { FIN } else { 0 }, payload);
                opcode = u8::from(is_last);
                if *with_ping {
                    write_frame(&mut sent, FIN | 9, b"xabba");
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut frames, mut out, mut from) = (Frames::new(keys.clone()), Vec::new(), 0);
            for cut in cuts.into_iter().chain([sent.len()]) {
                let piece = frames.push(Bytes::copy_from_slice(&sent[from..cut]));
                out.extend(piece.map_err(|e| TestCaseError::fail(e.to_string()))?);
                from = cut;
            }
            let masked = |message: Vec<u8>| keys.masked(&message).unwrap_or(message);
            let expected: Vec<_> = messages(&sent).into_iter().map(|(op, message)| (op, masked(message))).collect();
            // A ping may overtake the rest of a message, which was held back.
            let split = |all: Vec<(u8, Vec<u8>)>| all.into_iter().partition::<Vec<_>, _>(|(op, _)| *op >= CONTROL);
            prop_assert_eq!(split(messages(&out)), split(expected));
        }
    }

    #[test]
    fn what_cannot_be_looked_through_is_an_error() -> Result<(), Box<dyn std::error::Error>> {
        for bytes in [&[0xc1, 0x01, b'x'][..], &[0x81, 0x81, 0, 0, 0, 0, b'x'], &[0x89, 126, 1, 0]] {
            let mut frames = Frames::new(Keys::new(&[b"k3y".to_vec()])?);
            assert!(frames.push(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
        Ok(())
    }
}
