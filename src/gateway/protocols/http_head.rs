//! The head of an HTTP/1 request and the framing of its body, read strictly. Pure.
//!
//! RFC 9112 lets a recipient accept much. What two recipients may read differently is refused here,
//! before anything else sees it: bare line feeds, folded lines, blanks before a colon, two lengths,
//! a length beside chunks, two hosts.

use super::websocket;
use crate::policy::Rule;

/// The most headers of a request, which is also hyper's bound.
const MAX_HEADERS: usize = 100;

/// The longest line before a chunk and the longest trailers, in bytes.
const MAX_CHUNK_LINE: usize = 256;
const MAX_TRAILERS: usize = 8 << 10;

/// What is needed of a request's head to frame it and to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes, with the empty line at its end.
    pub length: usize,
    /// The method.
    pub method: String,
    /// The target, of visible ASCII.
    pub target: String,
    /// The Host header.
    pub host: Option<String>,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether it offers another protocol that is taken: a WebSocket.
    pub upgrade: bool,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// Looks for the empty line that ends a head; `from` is how much was looked at before.
///
/// # Errors
/// A line ends otherwise than with CR and LF, or this cannot be HTTP.
pub fn end(bytes: &[u8], from: usize) -> Result<Option<usize>, Rule> {
    if bytes.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        return Err(Rule::UnknownProtocol);
    }
    let mut at = from.saturating_sub(3);
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
        let feed = at + found;
        let before = bytes.get(..feed).unwrap_or_default();
        if !before.contains(&b'\n') {
            // What is no request at all is not waited for.
            request_line(before.strip_suffix(b"\r").unwrap_or(before))?;
        }
        if !before.ends_with(b"\r") {
            return Err(Rule::MalformedRequest);
        }
        if before.ends_with(b"\r\n\r") {
            return Ok(Some(feed + 1));
        }
        at = feed + 1;
    }
    Ok(None)
}

/// Reads a head whose end was found.
///
/// # Errors
/// It is not what RFC 9112 wants to be sent, or asks for what is not understood here.
pub fn parse(head: &[u8]) -> Result<Head, Rule> {
    let text = head.strip_suffix(b"\r\n").filter(|text| text.ends_with(b"\r\n")).ok_or(Rule::MalformedRequest)?;
    // Each line loses one CR and one LF. What is left of another CR is in no field that is read.
    let mut lines = text.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r\n").unwrap_or(line));
    let (method, target, minor) = request_line(lines.next().unwrap_or_default())?;
    let fields = Fields::read(lines)?;
    let framing = fields.framing(minor)?;
    let upgrade = minor == 1 && fields.offers_websocket(&method);
    if minor == 1 && fields.host.is_none() {
        return Err(Rule::MalformedRequest);
    }
    // Whose bytes come after such a head must be beyond doubt.
    if (upgrade || method == "CONNECT") && framing != Framing::Length(0) {
        return Err(Rule::MalformedRequest);
    }
    Ok(Head { length: head.len(), method, target, host: fields.host, framing, upgrade })
}

fn request_line(line: &[u8]) -> Result<(String, String, u8), Rule> {
    let text = std::str::from_utf8(line).map_err(|_| Rule::UnknownProtocol)?;
    let mut parts = text.split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        // A version at its end shows that HTTP is meant.
        let end = text.trim_end_matches('\r');
        let is_http = end.ends_with(" HTTP/1.1") || end.ends_with(" HTTP/1.0");
        return Err(if is_http { Rule::MalformedRequest } else { Rule::UnknownProtocol });
    };
    let minor = match version {
        "HTTP/1.0" => 0,
        "HTTP/1.1" => 1,
        "HTTP/1.0\r" | "HTTP/1.1\r" => return Err(Rule::MalformedRequest),
        _ => return Err(Rule::UnknownProtocol),
    };
    let is_method = !method.is_empty() && method.bytes().all(is_token);
    if !is_method || target.is_empty() || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Rule::MalformedRequest);
    }
    Ok((method.to_owned(), target.to_owned(), minor))
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The headers that say whom a request is for and where it ends.
#[derive(Default)]
struct Fields {
    host: Option<String>,
    length: Option<u64>,
    coding: Option<String>,
    connection: Vec<u8>,
    protocols: Vec<u8>,
}

impl Fields {
    fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, Rule> {
        let mut fields = Self::default();
        for (count, line) in lines.enumerate() {
            if count >= MAX_HEADERS {
                return Err(Rule::HeadTooLarge);
            }
            let (name, value) = field(line)?;
            fields.add(&name, value)?;
        }
        Ok(fields)
    }

    fn add(&mut self, name: &str, value: &[u8]) -> Result<(), Rule> {
        let text = || std::str::from_utf8(value).map_err(|_| Rule::MalformedRequest);
        match name {
            "host" => once(&mut self.host, text()?.to_owned()),
            "content-length" => once(&mut self.length, length(text()?)?),
            "transfer-encoding" => once(&mut self.coding, text()?.to_ascii_lowercase()),
            "upgrade" => append(&mut self.protocols, value),
            "connection" => append(&mut self.connection, value),
            _ => Ok(()),
        }
    }

    fn framing(&self, minor: u8) -> Result<Framing, Rule> {
        match (&self.coding, self.length) {
            (None, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (Some(coding), None) if coding == "chunked" && minor == 1 => Ok(Framing::Chunked),
            _ => Err(Rule::MalformedRequest),
        }
    }

    fn offers_websocket(&self, method: &str) -> bool {
        let one = |list| std::iter::once(list);
        websocket::is_offered(method, one(self.connection.as_slice()), one(self.protocols.as_slice()))
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Rule> {
    if place.replace(value).is_some() { Err(Rule::MalformedRequest) } else { Ok(()) }
}

/// Adds a value to a list that may stand in several lines.
fn append(list: &mut Vec<u8>, value: &[u8]) -> Result<(), Rule> {
    list.push(b',');
    list.extend_from_slice(value);
    Ok(())
}

fn length(text: &str) -> Result<u64, Rule> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Rule::MalformedRequest);
    }
    text.parse().map_err(|_| Rule::MalformedRequest)
}

/// A name in lower case, and a value without the blanks around it.
fn field(line: &[u8]) -> Result<(String, &[u8]), Rule> {
    let colon = line.iter().position(|b| *b == b':').ok_or(Rule::MalformedRequest)?;
    let (name, value) = line.split_at_checked(colon).ok_or(Rule::MalformedRequest)?;
    let value = value.get(1..).unwrap_or_default();
    let is_value = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
    if name.is_empty() || !name.iter().copied().all(is_token) || !value.iter().all(is_value) {
        return Err(Rule::MalformedRequest);
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    Ok((name, value.trim_ascii()))
}

/// Follows a body to its end.
#[derive(Debug)]
pub struct Body(Part);

#[derive(Debug)]
enum Part {
    /// So much of a body without chunks is missing.
    Plain(u64),
    /// The line before a chunk, as far as it has come.
    Size(Vec<u8>),
    /// So much of a chunk and the line end after it is missing.
    Chunk(u64),
    /// The trailers, as far as they have come.
    Trailers(Vec<u8>),
}

impl Body {
    /// A body of which nothing has come yet.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(length) => Part::Plain(length),
            Framing::Chunked => Part::Size(Vec::new()),
        })
    }

    /// Whether nothing of it is missing.
    pub fn is_over(&self) -> bool {
        matches!(self.0, Part::Plain(0))
    }

    /// Takes the bytes that come next, and says how many of them are the body's.
    ///
    /// # Errors
    /// The chunks are not well-formed.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Rule> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty() && !self.is_over()) {
            taken += self.step(rest)?;
        }
        Ok(taken)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, Rule> {
        let first = bytes.first().copied().unwrap_or_default();
        match &mut self.0 {
            Part::Plain(missing) => {
                let taken = usize::try_from(*missing).unwrap_or(usize::MAX).min(bytes.len());
                *missing -= taken as u64;
                Ok(taken)
            }
            // The two last bytes of what is missing are CR and LF.
            Part::Chunk(missing @ (1 | 2)) => {
                if first != if *missing == 2 { b'\r' } else { b'\n' } {
                    return Err(Rule::MalformedRequest);
                }
                *missing -= 1;
                if *missing == 0 {
                    self.0 = Part::Size(Vec::new());
                }
                Ok(1)
            }
            Part::Chunk(missing) => {
                let taken = usize::try_from(*missing - 2).unwrap_or(usize::MAX).min(bytes.len());
                *missing -= taken as u64;
                Ok(taken)
            }
            Part::Size(line) => {
                line.push(first);
                if let Some(line) = whole_line(line, MAX_CHUNK_LINE)? {
                    self.0 = match chunk_size(line)? {
                        0 => Part::Trailers(Vec::new()),
                        size => Part::Chunk(size.checked_add(2).ok_or(Rule::MalformedRequest)?),
                    };
                }
                Ok(1)
            }
            Part::Trailers(lines) => {
                lines.push(first);
                if first == b'\n' && trailers_end(lines)? {
                    self.0 = Part::Plain(0);
                } else if lines.len() > MAX_TRAILERS {
                    return Err(Rule::MalformedRequest);
                }
                Ok(1)
            }
        }
    }
}

/// A line without its end, once that has come.
fn whole_line(line: &[u8], max: usize) -> Result<Option<&[u8]>, Rule> {
    if line.len() > max {
        return Err(Rule::MalformedRequest);
    }
    if !line.ends_with(b"\n") {
        return Ok(None);
    }
    line.strip_suffix(b"\r\n").ok_or(Rule::MalformedRequest).map(Some)
}

fn chunk_size(line: &[u8]) -> Result<u64, Rule> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at_checked(digits).ok_or(Rule::MalformedRequest)?;
    let visible = extension.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    if digits.is_empty() || digits.len() > 15 || !visible || extension.first().is_some_and(|b| *b != b';') {
        return Err(Rule::MalformedRequest);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Rule::MalformedRequest)?;
    u64::from_str_radix(digits, 16).map_err(|_| Rule::MalformedRequest)
}

/// Whether the last line of the trailers is the empty one. Each other must be a field that says nothing
/// about where a message ends or whom it is for.
fn trailers_end(lines: &[u8]) -> Result<bool, Rule> {
    let text = lines.strip_suffix(b"\r\n").ok_or(Rule::MalformedRequest)?;
    let last = text.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    if last.is_empty() {
        return Ok(true);
    }
    let (name, _) = field(last)?;
    let misleads = ["host", "content-length", "transfer-encoding", "connection", "upgrade"].contains(&name.as_str());
    if misleads { Err(Rule::MalformedRequest) } else { Ok(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Head, Rule> {
        let length = end(text.as_bytes(), 0)?.ok_or(Rule::Unresolved)?;
        parse(&text.as_bytes()[..length])
    }

    #[test]
    fn a_plain_request_is_read() {
        let head = whole("POST /x?y HTTP/1.1\r\nHost: a.example\r\ncontent-length: 5\r\n\r\nhello").unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/x?y"));
        assert_eq!((head.host.as_deref(), head.framing), (Some("a.example"), Framing::Length(5)));
        assert!(whole("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").is_ok());
        assert!(whole("GET http://a.example/ HTTP/1.0\r\n\r\n").is_ok());
        let head = whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert!(head.unwrap().upgrade);
        // An offer that is not taken changes nothing of a request, nor of its body.
        let offers = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk";
        let head = whole(&format!("POST / HTTP/1.1\r\nHost: a\r\n{offers}\r\nContent-Length: 5\r\n\r\n")).unwrap();
        assert_eq!((head.upgrade, head.framing), (false, Framing::Length(5)));
        let head = whole("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(head.framing, Framing::Chunked);
    }

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        for fields in [
            "Host: a\r\nHost: b",
            "Host: a\r\nHost: a",
            "X: y",
            "Host : a",
            " Host: a",
            "Host: a\r\n folded",
            "Host: a\r\nX:\0y",
            "Host: a\r\nX: a\rb",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 2",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1",
            "Host: a\r\nContent-Length: 1, 1",
            "Host: a\r\nContent-Length: +1",
            "Host: a\r\nContent-Length: 0x1",
            "Host: a\r\nContent-Length: 99999999999999999999999",
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Host: a\r\nTransfer-Encoding: gzip, chunked",
            "Host: a\r\nTransfer-Encoding: xchunked",
            "Host: a\r\nTransfer-Encoding: \u{b}chunked",
            "Host: a\r\nno colon",
            "Host: a\r\nX: y\r",
            "Host: a\r",
            "X: y\r\r\nHost: a",
            "Host: a\r\nX: y\r\r",
            "Host: a\r\n\r",
            "Host: a\r\n: x",
            "Host: a\r\nContent-Length: 5\r\nConnection: upgrade\r\nUpgrade: websocket",
        ] {
            assert_eq!(
                whole(&format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")),
                Err(Rule::MalformedRequest),
                "{fields:?}"
            );
        }
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\r\n\r\n",
            "GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\n",
        ] {
            assert_eq!(whole(text), Err(Rule::MalformedRequest), "{text:?}");
        }
        for text in [
            "SSH-2.0-OpenSSH_9.6\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "EHLO me\r\n\r\n",
            "HELP\n",
            "\u{16}\u{3}\u{1}",
            "get / HTTP/1.1\r\n\r\n",
            "GET / HTTP/3.0\r\n\r\n",
        ] {
            let refused = whole(text);
            assert!(matches!(refused, Err(Rule::UnknownProtocol | Rule::Unresolved)), "{text:?}: {refused:?}");
        }
        let many = "X: y\r\n".repeat(101);
        assert_eq!(whole(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Err(Rule::HeadTooLarge));
    }

    #[test]
    fn a_body_ends_where_it_says() {
        for (framing, text, length) in [
            (Framing::Length(0), "GET", 0),
            (Framing::Length(5), "helloGET", 5),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n\r\nGET", 15),
            (Framing::Chunked, "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nGET", 25),
            (Framing::Chunked, "00A\r\n0123456789\r\n0\r\n\r\n", 22),
        ] {
            let mut body = Body::new(framing);
            assert_eq!((body.advance(text.as_bytes()), body.is_over()), (Ok(length), true), "{text:?}");
            let mut body = Body::new(framing);
            let bytes = text.as_bytes().iter().map(|b| body.advance(&[*b]).unwrap()).sum::<usize>();
            assert_eq!((bytes, body.is_over()), (length, true), "{text:?}");
        }
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n",
            "5 \r\nhello\r\n",
            "-5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "\r\n",
            "fffffffffffffffff\r\n",
            "0\r\nContent-Length: 3\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(Body::new(Framing::Chunked).advance(text.as_bytes()), Err(Rule::MalformedRequest), "{text:?}");
        }
        let long = format!("1;{}\r\n", "a".repeat(300));
        assert_eq!(Body::new(Framing::Chunked).advance(long.as_bytes()), Err(Rule::MalformedRequest));
    }
}
