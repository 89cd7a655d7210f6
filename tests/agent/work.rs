//! What tells whoever asks which agent answers, and what of a request it got: `/work?id=ID`, over HTTP or a WebSocket.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::{hostname, invalid};

/// The longest head of a request, in bytes.
const MAX_HEAD: u64 = 16 << 10;

/// What is written at once.
static BLOCK: [u8; 64 << 10] = [b'x'; 64 << 10];

/// The head of a request.
pub struct Head {
    /// Its first line.
    pub line: String,
    headers: Vec<String>,
}

impl Head {
    /// Reads one; `None` where nothing comes any more.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut lines = reader.take(MAX_HEAD).lines();
        let Some(line) = lines.next().transpose()? else { return Ok(None) };
        let headers = lines.take_while(|line| line.as_ref().map_or(true, |line| !line.is_empty()));
        Ok(Some(Self { line, headers: headers.collect::<io::Result<_>>()? }))
    }

    fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// Its path.
    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// A value of its query.
    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target().split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// A number of its query; zero where there is none.
    fn count(&self, name: &str) -> io::Result<u64> {
        self.query(name).map_or(Ok(0), |text| text.parse().map_err(invalid))
    }

    /// A header, by its name in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.headers.iter().filter_map(|line| line.split_once(':'));
        pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// Answers one request after another, each once its body was read and `wait` milliseconds are over, with `bytes` bytes
/// behind what tells who answers. `log` is called with each request's first line as soon as that was read.
pub fn answer(stream: TcpStream, mut reader: BufReader<TcpStream>, first: Head, log: impl Fn(&str)) -> io::Result<()> {
    // A client that keeps a connection may come again after hours.
    stream.set_read_timeout(None)?;
    stream.set_nodelay(true)?;
    let (mut stream, mut next) = (stream, Some(first));
    while let Some(head) = next {
        let id = head.query("id").unwrap_or_default();
        if head.header("upgrade").is_some() {
            return echo(stream, reader, id);
        }
        let length = head.header("content-length").map_or(Ok(0), |text| text.parse::<u64>().map_err(invalid))?;
        let sent = io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
        if sent < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        thread::sleep(Duration::from_millis(head.count("wait")?));
        let mut left = head.count("bytes")?;
        let text = format!("tenant {}\nid {id}\nsent {sent}\n", hostname());
        let kind = "HTTP/1.1 200 OK\r\nContent-Type: text/plain";
        let whole = text.len() as u64 + left;
        stream.write_all(format!("{kind}\r\nContent-Length: {whole}\r\n\r\n{text}").as_bytes())?;
        while left > 0 {
            let some = left.min(BLOCK.len() as u64);
            stream.write_all(&BLOCK[..some as usize])?;
            left -= some;
        }
        next = Head::read(&mut reader)?;
        if let Some(head) = next.as_ref().filter(|head| head.path() == "/work") {
            log(&head.line);
        }
    }
    Ok(())
}

/// Answers each message of a WebSocket with who answers and what it says, until the client ends it. The handshake has no
/// `Sec-WebSocket-Accept`: it is for clients that look for none.
fn echo(mut stream: TcpStream, mut reader: BufReader<TcpStream>, id: &str) -> io::Result<()> {
    const END: u8 = 8;
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
    loop {
        let mut head = [0; 2];
        reader.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length)?;
                u16::from_be_bytes(length)
            }
            127 => return Err(ErrorKind::InvalidData.into()),
            short => u16::from(short),
        };
        let mut mask = [0; 4];
        reader.read_exact(&mut mask)?;
        let mut message = vec![0; usize::from(length)];
        reader.read_exact(&mut message)?;
        if head[0] & 0x0f == END {
            return stream.write_all(&[0x80 | END, 0]);
        }
        message.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let answer = [format!("{} {id} ", hostname()).as_bytes(), &message].concat();
        let length = u16::try_from(answer.len()).map_err(invalid)?;
        let mut frame = vec![0x82, 126];
        frame.extend(length.to_be_bytes());
        frame.extend(answer);
        stream.write_all(&frame)?;
    }
}
