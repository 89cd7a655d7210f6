//! HTTP/2 frame by frame, so that a client can do what none should: RFC 9113, sections 4 and 6.

use std::io::{self, Read, Write};

use crate::world::{Tenant, TlsClient};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GO_AWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A client that speaks HTTP/2.
pub struct Frames {
    stream: TlsClient,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it is of a body.
    pub fn is_data(&self, stream: u32) -> bool {
        (self.kind, self.stream) == (DATA, stream)
    }

    pub fn is_reset(&self, stream: u32) -> bool {
        (self.kind, self.stream) == (RESET, stream)
    }

    /// Whether it begins an answer with 200: the ingress writes that as the static table has it.
    pub fn is_ok(&self, stream: u32) -> bool {
        (self.kind, self.stream) == (HEADERS, stream) && self.payload.contains(&0x88)
    }

    pub fn is_last(&self, stream: u32) -> bool {
        self.stream == stream && matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM > 0
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as RFC 7541 lets it be written without any table: section 6.2.2.
pub fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let text = |bytes: &[u8]| {
        let mut length = vec![u8::try_from(bytes.len().min(127)).unwrap()];
        let mut rest = bytes.len().checked_sub(127);
        while let Some(more) = rest {
            length.push((more % 128) as u8 | if more >= 128 { 128 } else { 0 });
            rest = (more >= 128).then_some(more / 128);
        }
        [&length, bytes].concat()
    };
    [vec![0], text(name.as_bytes()), text(value)].concat()
}

/// A request's fields.
pub fn fields(all: &[(&str, &str)]) -> Vec<u8> {
    all.iter().flat_map(|(name, value)| field(name, value.as_bytes())).collect()
}

impl Frames {
    /// A connection that has begun, with these settings.
    pub fn open(tenant: &Tenant, settings: &[(u16, u32)]) -> Self {
        let stream = tenant.ingress.connect_tls(&tenant.name, &["h2"]);
        let mut client = Self { stream };
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        client.write(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &payload)].concat()).unwrap();
        client
    }

    /// Sends bytes, whatever they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.write(&frame(kind, flags, stream, payload))
    }

    /// Sends the head of a request that lets its bearer in, which ends there or not.
    pub fn request(&mut self, stream: u32, tenant: &Tenant, path: &str, token: &str, is_last: bool) {
        let block = head(if is_last { "GET" } else { "POST" }, tenant, path, token);
        let flags = END_HEADERS | if is_last { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block).unwrap();
    }

    /// The next frame. `None` where the connection ends.
    ///
    /// # Panics
    /// Nothing comes for ten seconds.
    pub fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.read(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            let _ = self.send(SETTINGS, ACK, 0, &[]);
        }
        Some(frame)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("nothing comes")
            }
            Err(_) => None,
        }
    }

    /// Reads until such a frame, which has to come.
    pub fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Frame {
        let mut seen = Vec::new();
        loop {
            let Some(frame) = self.next() else { panic!("the connection ends after {seen:?}") };
            if is_it(&frame) {
                return frame;
            }
            seen.push((frame.kind, frame.flags, frame.stream));
        }
    }

    /// The next frame of a stream, or `None` where the connection ends or goes away.
    pub fn next_of(&mut self, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == GO_AWAY {
                return None;
            }
            if frame.stream == stream && frame.kind != WINDOW_UPDATE {
                return Some(frame);
            }
        }
    }

    /// From now on what cannot be sent within a second is an error.
    pub fn without_waiting(&self) {
        self.stream.sock.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    }

    /// Reads to the end of the connection, or until such a frame. Says whether it came.
    pub fn comes(&mut self, is_it: impl Fn(&Frame) -> bool) -> bool {
        std::iter::from_fn(|| self.next()).any(|frame| is_it(&frame))
    }
}

/// The fields of a request that lets its bearer in.
pub fn head(method: &str, tenant: &Tenant, path: &str, token: &str) -> Vec<u8> {
    fields(&[
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", &tenant.host()),
        ("authorization", &format!("Bearer {token}")),
    ])
}
