//! The first message of TLS, read as far as needed to know whom it is for. Pure.
//!
//! RFC 8446, sections 4.1.2 and 5.1. Nothing is skipped that was not understood: each length must fit
//! exactly, so that what is read here is what the server reads.

use crate::policy::{Rule, authority::Host};

/// The longest message that is read, in bytes. Those of browsers with post-quantum keys have 2 KiB.
pub const MAX_HELLO: usize = 16 << 10;

/// The most that it may take with the headers of its records: a record may hold a single byte, but 64
/// of them are more than anyone has.
pub const MAX_BYTES: usize = MAX_HELLO + 64 * RECORD_HEADER;

const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// Encrypted client hello as in RFC 9849. Chromium sends a decoy where it knows no key, which nobody can tell from
/// a real one.
const ENCRYPTED_HELLO: u16 = 0xfe0d;
/// The draft of encrypted server names before it, without an outer name.
const ENCRYPTED_NAME: u16 = 0xffce;

/// What a client says first.
#[derive(Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server's name in canonical form, where there is one.
    pub name: Option<Host>,
    /// Whether it carries another hello, encrypted, with a name of its own: then `name` is the outer one.
    pub is_encrypted: bool,
}

impl Hello {
    /// The name that it is judged by: an outer one counts for those tenants alone that `may_be_encrypted` is true of.
    ///
    /// # Errors
    /// It hides its name.
    pub fn judged_name(self, may_be_encrypted: bool) -> Result<Option<Host>, Rule> {
        if self.is_encrypted && !(may_be_encrypted && self.name.is_some()) {
            return Err(Rule::HiddenName);
        }
        Ok(self.name)
    }
}

/// Whether bytes can be the beginning of TLS: a handshake record of any version of TLS.
pub fn looks_like_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [HANDSHAKE] | [HANDSHAKE, 3, ..])
}

/// Reads a hello. `None` where more bytes are needed.
///
/// # Errors
/// It is not a hello, its server name is no host name or without any outer one, or it is too long.
pub fn parse(bytes: &[u8]) -> Result<Option<Hello>, Rule> {
    let Some(message) = message(bytes)? else { return Ok(None) };
    let mut body = Reader(&message);
    body.take(2 + 32)?;
    let session = body.vector8()?;
    let suites = body.vector16()?;
    let compressions = body.vector8()?;
    if session.0.len() > 32 || suites.0.is_empty() || suites.0.len() % 2 != 0 || compressions.0.is_empty() {
        return Err(Rule::MalformedHello);
    }
    if body.0.is_empty() {
        return Ok(Some(Hello { name: None, is_encrypted: false }));
    }
    let extensions = body.vector16()?;
    body.end()?;
    read_extensions(extensions).map(Some)
}

/// Puts the message together from its records.
fn message(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Rule> {
    if bytes.len() > MAX_BYTES {
        return Err(Rule::MalformedHello);
    }
    let mut message = Vec::new();
    loop {
        let [kind, major, _, high, low, rest @ ..] = bytes else {
            let plausible = bytes.is_empty() || looks_like_tls(bytes);
            return if plausible { Ok(None) } else { Err(Rule::UnknownProtocol) };
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if (*kind, *major) != (HANDSHAKE, 3) || length == 0 || length > MAX_RECORD {
            return Err(Rule::UnknownProtocol);
        }
        let part = rest.get(..length).unwrap_or(rest);
        message.extend_from_slice(part);
        if let [kind, a, b, c, ..] = message.as_slice() {
            let announced = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap_or(usize::MAX);
            if *kind != CLIENT_HELLO || announced > MAX_HELLO {
                return Err(Rule::UnknownProtocol);
            }
            match message.len().cmp(&(4 + announced)) {
                std::cmp::Ordering::Equal if part.len() == length => return Ok(Some(message.split_off(4))),
                std::cmp::Ordering::Greater => return Err(Rule::MalformedHello),
                _ => {}
            }
        }
        let Some(next) = rest.get(length..) else { return Ok(None) };
        bytes = next;
    }
}

fn read_extensions(mut extensions: Reader<'_>) -> Result<Hello, Rule> {
    let mut seen = Vec::new();
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        if kind == ENCRYPTED_NAME {
            return Err(Rule::HiddenName);
        }
        if seen.contains(&kind) {
            return Err(Rule::MalformedHello);
        }
        seen.push(kind);
        if kind == SERVER_NAME {
            name = Some(server_name(content)?);
        }
    }
    Ok(Hello { name, is_encrypted: seen.contains(&ENCRYPTED_HELLO) })
}

/// A list of exactly one name, of the one kind that there is.
fn server_name(mut content: Reader<'_>) -> Result<Host, Rule> {
    let mut list = content.vector16()?;
    content.end()?;
    if list.take(1)? != [0] {
        return Err(Rule::MalformedHello);
    }
    let name = list.vector16()?;
    list.end()?;
    let text = std::str::from_utf8(name.0).map_err(|_| Rule::MalformedHello)?;
    match Host::parse(text).map_err(|_| Rule::MalformedHello)? {
        // RFC 6066: addresses are no server names.
        Host::Address(_) => Err(Rule::MalformedHello),
        host => Ok(host),
    }
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Rule> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Rule::MalformedHello)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Rule> {
        let bytes = self.take(2)?.try_into().map_err(|_| Rule::MalformedHello)?;
        Ok(u16::from_be_bytes(bytes))
    }

    fn vector8(&mut self) -> Result<Self, Rule> {
        let length = self.take(1)?.first().copied().unwrap_or_default();
        self.take(length.into()).map(Self)
    }

    fn vector16(&mut self) -> Result<Self, Rule> {
        let length = self.u16()?;
        self.take(length.into()).map(Self)
    }

    fn end(&self) -> Result<(), Rule> {
        if self.0.is_empty() { Ok(()) } else { Err(Rule::MalformedHello) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// What rustls sends for a name.
    fn real(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// A hello with extensions of one's own.
    fn made(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, content) in extensions {
            list.extend(kind.to_be_bytes());
            list.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            list.extend(content);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        body.extend(list);
        let mut message = vec![1];
        message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        message.extend(body);
        message
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message
            .chunks(size)
            .flat_map(|part| {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                [&[22, 3, 1][..], &length, part].concat()
            })
            .collect()
    }

    fn names(names: &[&[u8]]) -> (u16, Vec<u8>) {
        let mut list = Vec::new();
        for name in names {
            list.push(0);
            list.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            list.extend(*name);
        }
        (0, [&u16::try_from(list.len()).unwrap().to_be_bytes()[..], &list].concat())
    }

    fn host(name: &str) -> Option<Host> {
        Some(Host::Name(name.to_owned()))
    }

    #[test]
    fn the_name_is_found_however_it_is_cut() {
        let bytes = real("api.example.com");
        let plain = |name| Ok(Some(Hello { name, is_encrypted: false }));
        assert_eq!(parse(&bytes), plain(host("api.example.com")));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(None), "{end}");
        }
        for size in [9, 20, 100, 16384] {
            let bytes = records(&made(&[names(&[b"API.Example.com"])]), size);
            assert_eq!(parse(&bytes), plain(host("api.example.com")), "{size}");
        }
        assert_eq!(parse(&records(&made(&[(10, vec![])]), 500)), plain(None));
    }

    #[test]
    fn a_name_that_is_hidden_doubled_or_odd_is_refused() {
        let refused = |extensions: &[(u16, Vec<u8>)]| parse(&records(&made(extensions), 16384)).err();
        assert_eq!(refused(&[names(&[b"a.example"]), (0xffce, vec![])]), Some(Rule::HiddenName));
        assert_eq!(refused(&[names(&[b"a.example"]), names(&[b"b.example"])]), Some(Rule::MalformedHello));
        assert_eq!(refused(&[names(&[b"a.example", b"b.example"])]), Some(Rule::MalformedHello));
        for odd in [&b""[..], b"a.example.", b"127.0.0.1", b"a\0.example", b"u@a.example", b"\xff.example", b"a b"] {
            assert_eq!(refused(&[names(&[odd])]), Some(Rule::MalformedHello), "{odd:?}");
        }
        assert_eq!(refused(&[(0, vec![])]), Some(Rule::MalformedHello));
        assert_eq!(refused(&[(0, vec![0, 4, 1, 0, 1, b'a'])]), Some(Rule::MalformedHello));
    }

    #[test]
    fn an_outer_name_counts_for_whom_it_may() {
        let judged = |extensions: &[(u16, Vec<u8>)], may| {
            parse(&records(&made(extensions), 16384)).unwrap().unwrap().judged_name(may)
        };
        let (name, encrypted) = (names(&[b"a.example"]), (0xfe0d, vec![0; 40]));
        for (extensions, may, expected) in [
            (std::slice::from_ref(&name), false, Ok(host("a.example"))),
            (&[name.clone(), encrypted.clone()], false, Err(Rule::HiddenName)),
            (&[encrypted.clone(), name.clone()], true, Ok(host("a.example"))),
            (std::slice::from_ref(&encrypted), true, Err(Rule::HiddenName)),
            (std::slice::from_ref(&encrypted), false, Err(Rule::HiddenName)),
            (&[], true, Ok(None)),
        ] {
            assert_eq!(judged(extensions, may), expected, "{extensions:?} {may}");
        }
    }

    #[test]
    fn what_is_no_hello_is_refused_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0",
            &[22, 2, 0],
            &[22, 3, 1, 0, 0],
            &[21, 3, 3, 0, 2],
            &[22, 3, 3, 0, 4, 2, 0, 0, 0],
        ] {
            assert_eq!(parse(bytes), Err(Rule::UnknownProtocol), "{bytes:?}");
        }
        // 16 MiB are announced.
        assert_eq!(parse(&[22, 3, 1, 0, 4, 1, 255, 255, 255]), Err(Rule::UnknownProtocol));
        // More handshake data in the record of the hello.
        let mut longer = made(&[names(&[b"a.example"])]);
        longer.push(0);
        assert_eq!(parse(&records(&longer, 16384)), Err(Rule::MalformedHello));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_changed_byte_never_makes_another_name(at in 0usize..100, value in any::<u8>()) {
            let mut bytes = records(&made(&[names(&[b"api.example.com"])]), 16384);
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(Some(Hello { name: Some(Host::Name(name)), .. })) = parse(&bytes) {
                prop_assert_eq!(name.len(), "api.example.com".len());
            }
        }
    }
}
