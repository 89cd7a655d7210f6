//! Names to addresses: asked once, bounded in time and size, and remembered for each tenant by itself.
//!
//! A tenant's names have a memory of their own, so that nobody can drive out another's, and nobody can
//! tell from the time of an answer what another has asked for.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::resolved::{Answer, Names};
use crate::{
    accounting::account::Account,
    policy::Rule,
    protocols::reply::{Read, question, read_answer},
};

/// How long one server may take, and all of them together.
const SERVER: Duration = Duration::from_secs(2);
const ALL: Duration = Duration::from_secs(5);

/// The largest answer: that of a UDP packet without fragments, as DNS Flag Day 2020 has it, and that of
/// a name with more addresses than are used.
const MAX_PACKET: usize = 1232;
const MAX_STREAM: usize = 16 << 10;

/// How long it is remembered that nobody answered.
const NOBODY: Duration = Duration::from_secs(1);

/// The most that is read of resolv.conf, in bytes, and how many of its servers are used.
const MAX_CONF: u64 = 64 << 10;
const MAX_SERVERS: usize = 3;

/// Asks the resolvers of the host's settings.
#[derive(Debug, Default)]
pub struct Resolver {
    servers: RwLock<Arc<[SocketAddr]>>,
}

impl Resolver {
    /// Asks these servers from now on; none for those of /etc/resolv.conf as it is now.
    pub fn set_servers(&self, servers: &[SocketAddr]) {
        let servers = if servers.is_empty() { read_servers(Path::new("/etc/resolv.conf")) } else { servers.to_vec() };
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers.into();
    }

    /// The IPv4 addresses of a name, as `names` or a resolver has them.
    ///
    /// # Errors
    /// There are none, nobody answers in time, or the tenant has looked up too much.
    pub async fn lookup(
        &self,
        account: &Account,
        names: &Names,
        name: &str,
        per_second: u32,
    ) -> Result<Vec<Ipv4Addr>, Rule> {
        let slot = names.slot(name);
        let ask = async || {
            // Each has a socket; a resolver that says nothing must not take all of them.
            let _lease = account.lookup().ok_or(Rule::OverLimit)?;
            if !account.load.lookups.try_take(per_second) {
                return Err(Rule::OverLimit);
            }
            Ok(self.ask(name).await)
        };
        let answer = slot.get_or_try_init(ask).await?;
        match &answer.addresses {
            None => Err(Rule::NoResolver),
            Some(addresses) if addresses.is_empty() => Err(Rule::Unresolved),
            Some(addresses) => Ok(addresses.clone()),
        }
    }

    async fn ask(&self, name: &str) -> Answer {
        let servers = Arc::clone(&self.servers.read().unwrap_or_else(PoisonError::into_inner));
        let ask_all = async {
            for server in servers.iter() {
                match timeout(SERVER, ask_one(*server, name)).await {
                    Ok(Ok(answer)) => return Some(answer),
                    Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver did not answer as it should"),
                    Err(_) => tracing::debug!(%server, "a resolver did not answer in time"),
                }
            }
            None
        };
        let answer = timeout(ALL, ask_all).await.ok().flatten();
        let (addresses, lasts) = answer.map_or((None, NOBODY), |(addresses, lasts)| (Some(addresses), lasts));
        Answer { addresses, until: Instant::now() + lasts }
    }
}

/// Asks one server, by UDP from a fresh port, and by TCP where the answer does not fit.
async fn ask_one(server: SocketAddr, name: &str) -> io::Result<(Vec<Ipv4Addr>, Duration)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let id = u16::from_be_bytes(id);
    let question = question(id, name)?;
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From now on the kernel passes on nothing that comes from elsewhere.
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match read_answer(buffer.get(..length).unwrap_or_default(), id, name) {
            Read::Other => {}
            Read::Truncated => break,
            Read::Failed => return Err(io::Error::other("the server failed")),
            Read::Answer(addresses, lasts) => return Ok((addresses, lasts)),
        }
    }
    match read_answer(&ask_by_stream(server, &question).await?, id, name) {
        Read::Answer(addresses, lasts) => Ok((addresses, lasts)),
        _ => Err(io::Error::other("the answer by TCP is none")),
    }
}

async fn ask_by_stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_STREAM {
        return Err(io::Error::other("the answer is too long"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The servers of resolv.conf; those whose address is not understood are left out.
fn read_servers(path: &Path) -> Vec<SocketAddr> {
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, MAX_CONF), &mut text)?;
        Ok(text)
    });
    let text = text.unwrap_or_default();
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse::<IpAddr>().ok()
    });
    addresses.take(MAX_SERVERS).map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_a_resolver_reads_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# x\nnameserver 10.0.0.2\nsearch a\nnameserver fe80::1%eth0\nnameserver ::1\n")
            .unwrap();
        let read: Vec<String> = read_servers(file.path()).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["10.0.0.2:53", "[::1]:53"]);
    }
}
